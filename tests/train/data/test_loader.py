"""torch's DataLoader: the same batches with any number of workers, however they start, and on real ranks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.typing import NDArray
from torch import distributed, multiprocessing
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, Subset

from shapestore.errors import StoreDamaged, UsageError
from shapestore.train.data.batched import Batch, collate
from shapestore.train.data.dataset import ShapeDataset
from shapestore.train.data.draw import RandomDraw, StratifiedDraw
from shapestore.train.data.loader import loader, to_device
from shapestore.train.data.mixed import MixedDataset
from shapestore.train.data.sampler import ShapeSampler
from shapestore.train.data.visit import Visit
from tests.train.data.stores import FAILED, ROWS, write_store

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),  # three workers on two cores
]

DRAWS = (
    RandomDraw(arrays=("near_points",), count=9),
    StratifiedDraw(
        arrays=("vol_points", "vol_sdf"), by="vol_labels", counts={"aorta": 4, "outside": 3}, missing="others"
    ),
)


def make_dataset(path: Path) -> ShapeDataset:
    return ShapeDataset(path, ["pc_xyz", "category"], draws=DRAWS, seed=5)


@pytest.fixture(scope="module")
def mixed(path: Path, other_path: Path) -> MixedDataset:
    return MixedDataset([(make_dataset(path), 2), (make_dataset(other_path), 1)])


def content(batches: Iterable[Batch]) -> list[dict[str, bytes]]:
    """The bytes of every batch; nothing of the batches is kept."""
    return [{name: values.numpy().tobytes() for name, values in batch.items()} for batch in batches]


@pytest.fixture(scope="module")
def wanted(mixed: MixedDataset) -> list[dict[str, bytes]]:
    """Two epochs, one sample at a time."""
    sampler = ShapeSampler(mixed, 6, seed=1)
    return [
        {name: b"".join(mixed[visit][name].numpy().tobytes() for visit in visits) for name in mixed.layout}
        for _ in range(2)
        for visits in sampler
    ]


@pytest.mark.parametrize(
    ("workers", "context"),
    [(0, None), (1, "fork"), (3, "fork"), (1, "spawn"), pytest.param(3, "spawn", marks=pytest.mark.slow)],
    ids=str,
)
def test_batches_are_the_same_for_any_workers(
    mixed: MixedDataset, wanted: list[dict[str, bytes]], workers: int, context: Any
) -> None:
    loaded = loader(mixed, ShapeSampler(mixed, 6, seed=1), workers=workers, context=context)
    assert len(loaded) == len(wanted) / 2
    assert content(loaded) + content(loaded) == wanted


def test_batches_that_are_kept_are_not_overwritten(path: Path) -> None:
    dataset = make_dataset(path)
    batches = list(loader(dataset, ShapeSampler(dataset, 4), workers=2, context="fork"))
    kept = list(loader(dataset, ShapeSampler(dataset, 4)))
    assert content(batches) == content(kept) == content(loader(dataset, ShapeSampler(dataset, 4)))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_plain_loader_needs_nothing_of_this_package(path: Path, workers: int) -> None:
    dataset = make_dataset(path)
    plain = DataLoader(dataset, batch_size=4, num_workers=workers)
    ours = DataLoader(dataset, batch_size=4, num_workers=workers, collate_fn=collate)
    assert content(plain) == content(ours)
    part = Subset(dataset, [3, 1, 2])
    assert [int(row) for batch in DataLoader(part, batch_size=2) for row in batch["row"]] == [3, 1, 2]
    assert content(loader(dataset, BatchSampler(SequentialSampler(dataset), 4, False))) == content(ours)


def test_a_worker_stops_at_what_it_cannot_read(tmp_path: Path) -> None:
    broken = write_store(tmp_path / "broken.zarr", rows=9, failed=())
    (broken / "pc_xyz" / "c" / "0" / "0" / "0").write_bytes(b"")
    dataset = make_dataset(broken)
    with pytest.raises(StoreDamaged):
        list(loader(dataset, ShapeSampler(dataset, 3), workers=1, context="fork"))


class Resident(ShapeDataset):
    """Says in place of the row how many bytes its process has of its own."""

    def fill(self, visits: Sequence[Visit], out: Mapping[str, NDArray[Any]]) -> None:
        super().fill(visits, out)
        (own,) = [line for line in Path("/proc/self/smaps_rollup").read_text().splitlines() if "Anonymous:" in line]
        out["row"][...] = int(own.split()[1]) * 1024


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 8 MB."""
    return write_store(tmp_path_factory.mktemp("large") / "large.zarr", rows=40, failed=(), cloud=8_000)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_hold_no_copy_of_the_data(large: Path, context: Any) -> None:
    dataset = Resident(large, ["pc_xyz", "pc_n"])
    list(loader(dataset, ShapeSampler(dataset, 2)))
    own = [int(batch["row"][0]) for batch in loader(dataset, ShapeSampler(dataset, 2), workers=1, context=context)]
    assert len(own) == 20
    assert max(own) - own[0] < 40 * 8_000 * 24 / 4, "it has read all of it"


def train(rank: int, path: Path, folder: Path) -> None:
    distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    dataset = make_dataset(path)
    sampler = ShapeSampler(dataset, 8)
    epochs = [[batch["row"].tolist() for batch in loader(dataset, sampler)] for _ in range(2)]
    (folder / f"{rank}.json").write_text(json.dumps([epochs, sampler.certificate(2, 0)]))
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_see_disjoint_samples_whose_union_is_the_epoch(path: Path, tmp_path: Path) -> None:
    multiprocessing.spawn(train, (path, tmp_path), nprocs=2)
    (first, one), (second, other) = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    dataset = make_dataset(path)
    alone = ShapeSampler(dataset, 8)
    assert one == other == alone.certificate(2, 0)
    for mine, yours in zip(first, second, strict=True):
        assert len(mine) == len(yours) == len(alone)
        assert [len(share) for share in mine + yours] == [4] * 2 * len(alone)
        together = [a + b for a, b in zip(mine, yours, strict=True)]
        assert together == [dataset.rows[[visit.index for visit in visits]].tolist() for visits in alone]
        came = sorted(row for share in mine + yours for row in share)
        padding = 8 * len(alone) - (ROWS - len(FAILED))
        assert len(came) - len(set(came)) == padding
        assert set(came) == set(dataset.rows.tolist())
        assert not {row for share in mine[:-1] for row in share} & {row for share in yours[:-1] for row in share}


def test_a_batch_on_a_device_has_the_same_values(path: Path) -> None:
    dataset = make_dataset(path)
    batch = next(iter(loader(dataset, ShapeSampler(dataset, 4))))
    moved = to_device(batch, torch.device("cpu"))
    assert all(torch.equal(moved[name], batch[name]) for name in batch)
    away = to_device(batch, "meta")
    assert {values.device.type for values in away.values()} == {"meta"}


def test_batches_for_a_gpu_are_gathered_into_pinned_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU is needed: what is looked at is what torch is asked for."""
    dataset, asked, empty = make_dataset(path), [], torch.empty

    def without_a_gpu(*size: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
        asked.append(pin_memory)
        return empty(*size, **options)

    direct = loader(dataset, [[1, 2]], device="cuda")
    by_worker = loader(dataset, [[1, 2]], workers=1, device="cuda:0")
    with monkeypatch.context() as patch:
        patch.setattr(torch, "empty", without_a_gpu)
        batches = list(direct)
    assert asked == [True] * len(dataset.layout)
    assert isinstance(by_worker, DataLoader)
    assert by_worker.pin_memory, "a worker cannot pin: torch does it when a batch has arrived"
    assert content(batches) == content([dataset.__getitems__([1, 2]).batch])


@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_random_state_is_neither_used_nor_changed(path: Path, workers: int) -> None:
    """torch's loader takes a seed for its workers from it: a model would see which kind of loader it is fed by."""
    dataset = make_dataset(path)
    before = torch.get_rng_state()
    list(loader(dataset, ShapeSampler(dataset, 4), workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_sampler_of_another_dataset_is_refused(path: Path) -> None:
    dataset, same = make_dataset(path), make_dataset(path)
    loader(dataset, ShapeSampler(same, 4))
    other = ShapeDataset(path, ["pc_xyz", "category"], draws=DRAWS, seed=6)
    for workers in (0, 1):
        with pytest.raises(UsageError, match="one of another dataset, with other: dataset seed"):
            loader(dataset, ShapeSampler(other, 4), workers=workers)
