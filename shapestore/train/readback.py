"""Every setting of a run is read back from what was built of it, and compared with what was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from shapestore.errors import Problem, UsageError, WorkMismatch
from shapestore.schemas.base import Strict
from shapestore.train.parts import Part, Sampler
from shapestore.train.schedule import Schedule
from shapestore.train.settings import RunConfig
from shapestore.train.trainer import Trainer

TRAIN = "train"
"""The section that the loop itself is built from."""


def settings_in_effect(trainer: Trainer, sampler: Sampler, parts: Mapping[str, Part]) -> dict[str, Any]:
    """What the built objects hold, as plain values by dotted names.

    Settings that the loop reads where it uses them, such as `train.clip`, are held by no object and not among them.

    Parameters
    ----------
    parts
        What was built from the other sections of the configuration, by the name of the section.
    """
    optimised = {id(weight) for group in trainer.optimiser.param_groups for weight in group["params"]}
    found: dict[str, Any] = {
        "train.batch": sampler.batch,
        "train.ema": None if trainer.ema is None else trainer.ema.decay,
        "train.precision": trainer.loss.precision,
        "weights that are trained": [name for name, w in trainer.model.named_parameters() if id(w) in optimised],
    }
    for group in trainer.optimiser.param_groups:
        found |= {"train.lr": group["lr"], "train.betas": list(group["betas"])}
        found |= {"train.weight_decay": group["weight_decay"]}
    for section, part in parts.items():
        found |= flat(part.settings.model_dump(mode="json"), f"{section}.")
    return found


def settings_asked(config: RunConfig, trainer: Trainer, sampler: Sampler, steps_done: int) -> dict[str, Any]:
    """What `settings_in_effect` must be after so many steps; `train.lr` is the rate of the last step done."""
    settings = config.train
    schedule = Schedule.of(settings, settings.total_steps(len(sampler)))
    return {
        "train.batch": settings.batch,
        "train.ema": settings.ema,
        "train.precision": settings.precision,
        "weights that are trained": [name for name, w in trainer.model.named_parameters() if w.requires_grad],
        "train.lr": schedule(max(steps_done - 1, 0)),
        "train.betas": list(settings.betas),
        "train.weight_decay": settings.weight_decay,
        **flat(config.model_dump(mode="json", exclude={TRAIN})),
    }


def require_parts(config: RunConfig, parts: Mapping[str, Part]) -> None:
    """Raise `UsageError` where a section of the configuration cannot be read back from the part that was built."""
    if missing := type(config).model_fields.keys() - {TRAIN} - parts.keys():
        raise UsageError(
            f"the section {min(missing)} of the configuration is read back from no part. Hand over what was built from "
            "it, with its settings."
        )
    for section, part in parts.items():
        if not isinstance(getattr(part, "settings", None), Strict):
            raise UsageError(
                f"what was built from the section {section} does not tell its settings: give it `settings`, a Strict "
                "model as in the configuration, of what is really in effect."
            )


def require_equal(asked: Mapping[str, Any], found: Mapping[str, Any], what: str, remedy: str) -> None:
    """Compare settings by dotted names.

    Raises
    ------
    WorkMismatch
        Headed by `what`: every setting that differs, with both values, and the remedy.
    """
    if differences := [
        str(Problem(name, repr(asked.get(name)), repr(found.get(name))))
        for name in sorted(asked.keys() | found.keys())
        if asked.get(name) != found.get(name)
    ]:
        raise WorkMismatch("\n".join([what, *(f"  - {each}" for each in differences), remedy]))


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted names."""
    return dict(_flat(values, prefix))


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
