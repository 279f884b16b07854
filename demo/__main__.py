"""The demo: raw files in the real formats, three stores of them, and what can be done with a store.

Run it with `make demo`. Everything it writes lies in `demo-output/`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

import shapestore
from demo.raw import write_demo, write_hearts

OUTPUT = Path("demo-output")


def main() -> None:
    """Write raw files, ingest them, validate the stores, read them back, and train on one."""
    began = time.monotonic()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    shutil.rmtree(OUTPUT.with_name(f"{OUTPUT}.ingest"), ignore_errors=True)

    say("Raw files in the formats of the real datasets")
    raw = write_demo(OUTPUT / "raw")
    for folder in raw.values():
        files = [path for path in folder.rglob("*") if path.is_file()]
        print(f"{folder}: {len(files)} files, {sum(path.stat().st_size for path in files) / 2**20:.1f} MiB")

    say("Three stores: meshes, scans, label maps")
    for kind, name in {"shapenet": "shapenet", "scanobjectnn": "scans", "cardiac": "hearts"}.items():
        run("ingest", kind, raw[kind], OUTPUT / f"{name}.zarr")

    say("Each is checked to the last byte")
    for name in ("shapenet", "scans", "hearts"):
        run("validate", OUTPUT / f"{name}.zarr", "--level", "full")

    say("What is in a store")
    run("info", OUTPUT / "shapenet.zarr")

    say("torch reads it without copying")
    read_with_torch(OUTPUT / "shapenet.zarr")

    say("xarray reads it with labels")
    print(shapestore.open(OUTPUT / "hearts.zarr").to_xarray())

    say("Pictures")
    for name in ("shapenet", "scans", "hearts"):
        shape_id = shapestore.open(OUTPUT / f"{name}.zarr").index("shape_id")[0]
        run("show", OUTPUT / f"{name}.zarr", shape_id, "--picture", OUTPUT / f"{name}.png", quiet=True)
        print(f"{OUTPUT / name}.png shows {shape_id}")

    say("A model learns to rebuild hearts, for a minute")
    many = write_hearts(OUTPUT / "raw" / "many-hearts", cases=20, size=48)
    store, trained = OUTPUT / "many-hearts.zarr", OUTPUT / "run"
    run("ingest", "cardiac", many, store)
    run("split", store, "split", "--parts", "train=0.8,val=0.1,test=0.1")
    run("train", "vecset-tiny", store, trained, "--set", "train.steps=1000")
    run("evaluate", "reconstruct", trained, store, "--raw", many, "--out", OUTPUT / "rebuilt", "--cells", "64")
    print(f"{OUTPUT / 'rebuilt' / '000' / 'slices.png'} shows a heart that it never saw, and what it made of it")

    say(f"Done in {time.monotonic() - began:.0f} s. What to try next")
    store = OUTPUT / "shapenet.zarr"
    program = Path(sys.executable).with_name("shapestore")
    print(f"{program} ls {store} --where category=03001627")
    print(f"{program} split {store} unpaired --preset unpaired")
    print(f"{program} ingest meshes FOLDER-OF-YOUR-MESHES mine.zarr --dry-run")


class PointClouds(Dataset[tuple[torch.Tensor, int]]):
    """Points and category codes of some rows: tensors over the mapped file."""

    def __init__(self, store: shapestore.Store, split: str) -> None:
        self.store = store
        self.rows = store.rows(split=split)
        self.categories = store.index("category")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, int]:
        row = int(self.rows[position])
        return self.store.tensor("pc_xyz", row), int(self.categories[row])


def read_with_torch(path: Path) -> None:
    """Two worker processes read batches; each maps the files itself."""
    dataset = PointClouds(shapestore.open(path), "train")
    loader = DataLoader(dataset, batch_size=8, shuffle=True, num_workers=2)
    points, categories = next(iter(loader))
    print(f"batch of {len(points)} clouds {tuple(points.shape[1:])}, categories {categories.tolist()}")


def run(*arguments: object, quiet: bool = False) -> None:
    """Run one command as a user would."""
    words = [str(argument) for argument in arguments]
    if not quiet:
        print(f"\n$ shapestore {' '.join(words)}", flush=True)
    command = [str(Path(sys.executable).with_name("shapestore")), *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL if quiet else None)


def say(headline: str) -> None:
    """Begin a part of the demo."""
    print(f"\n=== {headline}", flush=True)


if __name__ == "__main__":
    main()
