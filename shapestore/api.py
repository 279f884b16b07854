"""The wiring: what the command line and Python users call. Nothing heavy is imported before it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shapestore.store.reader import open_store as open  # noqa: A004

if TYPE_CHECKING:
    from shapestore.evaluate.protocols.reconstruct import Reconstruction
    from shapestore.preprocess.ingest import Estimate, Request, Work
    from shapestore.preprocess.job import Progress
    from shapestore.preprocess.rebuilt import RebuiltRow
    from shapestore.preprocess.repair_run import Mended
    from shapestore.preprocess.workers import Workers
    from shapestore.quality.compare import Comparison
    from shapestore.quality.result import Level, Validation
    from shapestore.quality.why import Why
    from shapestore.train.bench_result import BenchResult
    from shapestore.train.checkpoint import State

__all__ = [
    "IngestResult",
    "bench",
    "derive",
    "diff",
    "evaluate_reconstruction",
    "export",
    "ingest",
    "open",
    "plan_ingest",
    "rebuild",
    "repair",
    "split",
    "split_unpaired",
    "train",
    "validate",
    "why",
]


@dataclass(frozen=True)
class IngestResult:
    """What an ingest left behind."""

    store: Path
    computed: int
    """Rows that this run computed, failed ones included."""
    resumed: int
    """Rows that an interrupted run had computed before."""
    unchanged: int
    """Items that the store had already."""
    rows: int
    """Rows of the store now."""
    valid: int
    """Rows that hold data now."""
    quarantined: int
    """Rows that are empty now because their input is quarantined."""


def plan_ingest(request: Request) -> tuple[Work, Estimate]:
    """What an ingest would do, and what it would cost; computes a few items and keeps nothing."""
    from shapestore.preprocess.ingest import estimate, prepare
    from shapestore.quality.gates import Gates

    work = prepare(request)
    return work, estimate(request, work, Gates(work.recipe, request.source_kind))


def ingest(
    source_kind: str,
    raw: str | Path,
    store: str | Path,
    *,
    recipe: str | None = None,
    settings: Sequence[str] = (),
    workers: int | None = None,
    scheduler: str | None = None,
    retry: bool = False,
    rebuild: bool = False,
    verify_sources: bool = False,
    max_failures: str | None = None,
    on_work: Callable[[Work], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> IngestResult:
    """Turn a folder of raw files into a store, or add to the store what is new.

    Safe to be killed at any time: the store stays at its last commit, and the same call goes on.

    Parameters
    ----------
    source_kind
        Dataset layout: `shapenet`, `modelnet40`, `scanobjectnn`, `cardiac`, `meshes`, `npz`, or an installed plug-in's.
    raw, store
        Folder of the raw files, and path of the store to make or to go on with.
    recipe, settings
        Built-in recipe or YAML file, and `key=value` changes to it. Left out, the store's own recipe is used, or the
        source's default for a new store.
    workers
        Processes of a local Dask cluster; None: one a core; 0: this process, for debugging.
    scheduler
        Address of a running Dask scheduler to use instead, such as `tcp://10.0.0.1:8786`.
    retry
        Compute quarantined rows once more.
    rebuild
        Compute rows once more whose raw file has changed since it was read.
    verify_sources
        Hash every raw file to tell whether it has changed, not only those of another size or time.
    max_failures
        Stop when more items fail: a count such as `10`, or a share such as `5%`.
    on_work, on_progress
        Called with what there is to do, and whenever rows are done.

    Raises
    ------
    UsageError
        The request does not fit the raw files or the store.
    StoppedEarly
        Interrupted, or too many failures; calling again goes on.
    """
    from shapestore.preprocess.ingest import Request, prepare, run
    from shapestore.quality.gates import Gates

    request = Request(
        source_kind, Path(raw), Path(store), recipe, tuple(settings), retry, rebuild, verify_sources, max_failures
    )
    work = prepare(request)
    gates = Gates(work.recipe, source_kind)
    if on_work is not None:
        on_work(work)
    done = run(request, work, _workers(workers, scheduler), on_progress or _silent, gates)
    root = open(store).root
    return IngestResult(
        store=Path(store),
        computed=done.done - done.resumed if done else 0,
        resumed=done.resumed if done else 0,
        unchanged=work.known,
        rows=root.rows,
        valid=root.valid,
        quarantined=root.quarantined,
    )


def validate(
    store: str | Path,
    level: Level = "sample",
    *,
    raw: str | Path | None = None,
    budget: float | None = None,
    waive: Sequence[str] = (),
    compare: str | Path | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Validation:
    """Check a store: its structure, the identity of its shards, its rows' checksums, and every quality check.

    The outcome is kept in the store's provenance, where the store may be written to.

    Parameters
    ----------
    store
        Path of the store.
    level
        `metadata`, `sample` (some rows) or `full` (all rows).
    raw
        Folder that the store was made from; without it, checks that read raw files are left out.
    budget
        Seconds that a sample may take; None: a fixed number of rows.
    waive
        Findings that are accepted: each `CHECK:SHAPE_ID`, or a YAML file with reasons.
    compare
        Another store, to say what changed against it.
    workers, scheduler
        As for `ingest`.
    on_progress
        Called with the number of finished tasks and of all.
    """
    from shapestore.quality.record import record
    from shapestore.quality.validate import Options
    from shapestore.quality.validate import compare as compare_with
    from shapestore.quality.validate import validate as run_validation
    from shapestore.quality.waivers import read_waivers

    options = Options(level, Path(raw) if raw is not None else None, budget, read_waivers(waive))
    chosen, report = _workers(workers, scheduler), on_progress or _silent
    examined = run_validation(Path(store), options, chosen, report)
    found = examined.validation
    if compare is not None:
        found = compare_with(examined, Path(compare), options, chosen, report)
    return found.model_copy(update={"unrecorded": record(Path(store), found)})


def derive(
    store: str | Path,
    array: str,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Add an array that follows from arrays already in the store, such as `pt_fps_order`.

    Raises
    ------
    UsageError
        The array is there already, or cannot be derived from what is there.
    """
    from shapestore.preprocess.derive import derive as run_derivation

    run_derivation(Path(store), array, _workers(workers, scheduler), on_progress or _silent)


def split(
    store: str | Path,
    name: str,
    parts: Mapping[str, float],
    *,
    seed: int = 0,
    within: str | None = None,
    replace: bool = False,
) -> dict[str, int]:
    """Divide the shapes of a store into named parts, by group and stratified by category, as an index array.

    Parameters
    ----------
    store
        Path of the store.
    name
        Name of the split set; `split` is the dataset's own, which only `replace` writes over.
    parts
        Part to its share; shares add up to 1.
    seed
        Another seed gives another split.
    within
        Divide only rows of this `split`.
    replace
        Write over a split set of this name.

    Returns
    -------
    dict
        Part to its number of rows.

    Raises
    ------
    UsageError
        A name is taken or unknown, or the shares do not add up.
    """
    from shapestore.preprocess.split_set import write_split

    return write_split(Path(store), name, parts, seed, within=within, replace=replace)


def split_unpaired(
    store: str | Path, name: str = "unpaired", *, seed: int = 0, replace: bool = False
) -> dict[str, int]:
    """The split set of unpaired training: `train` in train_mesh, train_pc and train_udf, and all of `test` as eval."""
    from shapestore.preprocess.split_set import write_unpaired

    return write_unpaired(Path(store), name, seed, replace)


def export(
    store: str | Path,
    out: str | Path,
    *,
    where: Mapping[str, Sequence[str]] | None = None,
    arrays: Sequence[str] | None = None,
) -> int:
    """Write shapes as `<out>/<split>/<shape_id>.npz`, uncompressed; returns the number of files.

    Raises
    ------
    UsageError
        The folder is not empty, or a condition or array is unknown.
    """
    from shapestore.store.export import export_npz

    opened = open(store)
    return export_npz(opened, Path(out), opened.rows(**(where or {})), arrays)


def why(store: str | Path, shape_id: str, *, raw: str | Path | None = None) -> Why:
    """Where a shape came from, which run computed it and how, and what every check measures of it.

    Parameters
    ----------
    store, shape_id
        Path of the store, and id of the shape.
    raw
        Folder of the raw files now; None: the recorded one.

    Raises
    ------
    UsageError
        The store has no such shape.
    """
    from shapestore.quality.why import why as find_out

    return find_out(Path(store), shape_id, Path(raw) if raw is not None else None)


def rebuild(
    store: str | Path,
    shape_ids: Sequence[str] | None,
    *,
    raw: str | Path | None = None,
    write: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[RebuiltRow]:
    """Compute rows once more from their source, and say whether they are what the store holds, to the byte.

    Parameters
    ----------
    store
        Path of the store.
    shape_ids
        Ids of the shapes, quarantined ones too; None: every row that holds data.
    raw
        Folder of the raw files now; None: the recorded one.
    write
        Replace rows that differ, and fill quarantined ones that can be computed now.
    workers, scheduler
        As for `ingest`; but shapes that are named are computed in this process if neither is given.
    on_progress
        Called with the number of finished rows and of all.

    Raises
    ------
    UsageError
        A shape is unknown, there is no raw folder, or an ingest is unfinished.
    StoreDamaged
        A shard of the store is lost or is not the committed one.
    """
    from shapestore.preprocess.rebuild import rebuild as run_rebuild
    from shapestore.quality.gates import Gates

    return run_rebuild(
        Path(store),
        shape_ids,
        Path(raw) if raw is not None else None,
        write,
        _workers(0 if workers is None and shape_ids is not None else workers, scheduler),
        on_progress or _silent,
        lambda opened: Gates(opened.root.recipe, opened.root.source_kind),
    )


def repair(
    store: str | Path,
    *,
    raw: str | Path | None = None,
    dry_run: bool = False,
    accept_loss: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Mended]:
    """Mend what is damaged in a store: to the byte where that can be proven, else from the raw files.

    Safe to be killed at any time: the same call goes on.

    Parameters
    ----------
    store
        Path of the store.
    raw
        Folder of the raw files now; None: the recorded one.
    dry_run
        Change and compute nothing; only say what would be done.
    accept_loss
        Quarantine lost rows even where the folder `raw` does not exist any more. Otherwise a row is lost only if the
        folder is there, and its file is not, or has changed.
    workers, scheduler
        As for `ingest`.
    on_progress
        Called with the number of finished row groups or rows, and of all.

    Returns
    -------
    list[Mended]
        Every damaged file with what was done; empty if nothing is damaged.

    Raises
    ------
    UsageError
        The path is no store, or an ingest is unfinished.
    StoreDamaged
        The root is damaged: nothing else says what was committed.
    """
    from shapestore.preprocess.repair import repair as run_repair
    from shapestore.quality.gates import Gates

    return run_repair(
        Path(store),
        Path(raw) if raw is not None else None,
        _workers(workers, scheduler),
        on_progress or _silent,
        lambda root: Gates(root.recipe, root.source_kind),
        dry_run=dry_run,
        accept_loss=accept_loss,
    )


def diff(a: str | Path, b: str | Path) -> Comparison:
    """What differs between two stores: schema, recipe, and every shape, whatever the order of the rows.

    Raises
    ------
    StoreDamaged
        A shard or an index array is lost, or is not the committed one.
    """
    from shapestore.quality.compare import compare_stores

    return compare_stores(Path(a), Path(b))


def bench(
    store: str | Path, *, fields: Sequence[str] = (), batch: int = 64, seconds: float = 2.0, workers: int = 0
) -> BenchResult:
    """Measure how fast shuffled batches come from a store on this machine, beside the machine's limits.

    Parameters
    ----------
    store
        Path of the store; nothing of it is changed.
    fields
        Arrays of a batch; none: all mapped arrays of which a batch fits into memory.
    batch
        Rows of a batch.
    seconds
        How long each of the measurements takes at most.
    workers
        Processes that read ahead; 0: this one reads.

    Raises
    ------
    UsageError
        The store has no such fields, or torch is not installed.
    NotAStore, StoreDamaged
        The store cannot be read.
    """
    _require_torch()
    from shapestore.train.bench import bench as measure

    return measure(store, fields, batch=batch, seconds=seconds, workers=workers)


def train(
    recipe: str,
    store: str | Path,
    run: str | Path,
    *,
    settings: Sequence[str] = (),
    resume: Literal["auto", "never"] = "never",
    workers: int = 0,
    device: Literal["cpu", "cuda"] = "cpu",
) -> State:
    """Train a model on a store, and keep it in the folder of a run. Under torchrun, all processes train one model.

    Parameters
    ----------
    recipe, settings
        Built-in recipe such as `vecset-tiny`, or YAML file, and `key=value` changes to it.
    store
        Path of the store.
    run
        Folder of the run: settings, log, checkpoints.
    resume
        `auto`: go on from the newest checkpoint, or begin where there is none. `never`: the folder must be a new one.
    workers
        Processes that read ahead; 0: this one reads.
    device
        What the model runs on.

    Returns
    -------
    State
        What is to be known of the last checkpoint.

    Raises
    ------
    RecipeInvalid, UsageError
        The recipe is wrong, or does not fit the store.
    WorkMismatch
        A setting did not arrive, or the run was begun with other settings or another store.
    StoppedEarly
        SIGTERM or SIGINT, after a checkpoint: go on with `resume="auto"`.
    """
    _require_torch()
    from shapestore.evaluate.queries import SCORES, query_scores
    from shapestore.train.data.loader import loader
    from shapestore.train.data.sampler import ShapeSampler
    from shapestore.train.loop import train as run_loop
    from shapestore.train.objectives.labelled_sdf import LabelledSdf
    from shapestore.train.ranks import launched
    from shapestore.train.reconstruction import Samples, build_model, load_config
    from shapestore.train.run import TrainedOn

    opened = open(store)
    config = load_config(recipe, settings, opened)
    if config.train.best is not None:
        config.train.best.require_among(SCORES)  # now, and not at the first validation
    data = Samples(opened, config.data)
    validation = data.validation
    with launched(device) as ranks:
        sampler = ShapeSampler(
            data.dataset, config.train.batch, seed=config.data.seed, rank=ranks.rank, ranks=ranks.count
        )
        return run_loop(
            config,
            Path(run),
            model=build_model(config),
            objective=LabelledSdf(config.objective),
            loader=loader(data.dataset, sampler, workers=workers, device=ranks.device),
            sampler=sampler,
            trained_on=[TrainedOn(opened, data.dataset.rows)],
            validate=None if validation is None else lambda model, _: query_scores(model, validation),
            built={"data": data},
            ranks=ranks,
            resume=resume,
        )


def evaluate_reconstruction(
    run: str | Path,
    store: str | Path,
    raw: str | Path,
    out: str | Path,
    *,
    part: str = "test",
    cells: int = 128,
    f_score_mm: float = 2.0,
    which: Literal["best", "last"] = "best",
    on_progress: Callable[[int, int], None] | None = None,
) -> Reconstruction:
    """Rebuild shapes with a trained model, and hold them against their raw label maps.

    Parameters
    ----------
    run
        Folder of the run, as `train` made it.
    store
        A store of the same schema and recipe as the one that it was trained on.
    raw
        Folder of the raw label maps; each must be the file that its row was made from.
    out
        New folder: `result.json`, `report.html`, and for each shape its slices and a mesh a class in patient space.
    part
        Part of the run's split that is judged. That which was trained on is judged without baselines: it says how
        well the model fits, and nothing of how it will do on others.
    cells
        Cells along each axis of the cube at which truth and prediction are compared, 8 to 512.
    f_score_mm
        Distance of the F-score, millimetres, at least 0.001.
    which
        The checkpoint.

    Raises
    ------
    UsageError
        There is no such run, checkpoint, part or raw folder; `out` is there already; `cells` or `f_score_mm` is out of
        range; or another part than that which was trained on has shapes of it.
    WorkMismatch
        The store does not fit the run.
    InputRefused
        A raw label map is lost or has changed.
    """
    _require_torch()
    from shapestore.errors import UsageError
    from shapestore.evaluate.protocols.reconstruct import Options, Subject, reconstruct
    from shapestore.evaluate.protocols.reconstruct_page import write_result
    from shapestore.store.durable import new_folder
    from shapestore.train.checkpoint import read_state
    from shapestore.train.reconstruction import ReconstructionConfig, class_names, load_model, rows_of, samples
    from shapestore.train.run import Run, StoreIdentity

    if which not in ("best", "last"):
        raise UsageError(f"which is 'best' or 'last', not {which!r}.")
    if not 8 <= cells <= 512:
        raise UsageError(f"cells is {cells}. Choose 8 to 512 cells along each axis of the cube.")
    if not 0.001 <= f_score_mm < float("inf"):
        raise UsageError(f"f_score_mm is {f_score_mm}. Choose a finite distance of at least 0.001 mm.")
    if Path(out).exists():
        raise UsageError(f"{out} is there already. Choose another folder for what comes of it.")
    if not Path(raw).is_dir():
        raise UsageError(f"{raw} is no folder. Name the one that the store was ingested from.")
    folder, opened = Run(Path(run)), open(store)
    config = folder.config(ReconstructionConfig)
    folder.require_fit(opened)
    names, checkpoint = class_names(opened), folder.checkpoint(which)
    rows, held_out = rows_of(opened, config.data.split, part), part != config.data.train
    folder.require_seen(opened, rows, not held_out)
    everything = opened.rows()
    known = everything[folder.seen(opened, everything)]
    subject = Subject(
        run=str(run), step=read_state(checkpoint).step, store=StoreIdentity.of(opened), part=part, held_out=held_out
    )
    with new_folder(Path(out)) as building:
        result = reconstruct(
            load_model(config, checkpoint),
            subject,
            samples(opened, rows, config.data, judged=True),
            known if held_out and len(known) else None,
            names,
            Options(Path(raw), building, cells, f_score_mm),
            on_progress or _silent,
        )
        write_result(result, names, building)
    return result


def _require_torch() -> None:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        from shapestore.errors import UsageError

        raise UsageError("this needs torch, which is not installed: pip install 'shapestore[train]'")


def _workers(workers: int | None, scheduler: str | None) -> Callable[[], Workers]:
    from shapestore.preprocess.cluster import DaskWorkers, sweep_scratch
    from shapestore.preprocess.workers import InProcess

    sweep_scratch()
    if workers == 0 and scheduler is None:
        return InProcess
    return lambda: DaskWorkers(workers, scheduler)


def _silent(*progress: Any) -> None:
    """Progress that nobody watches."""
