"""The root `zarr.json`: all that a commit says, with every array's metadata, in one file that is replaced at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError

from shapestore.errors import NewerFormat, NotAStore, StoreDamaged
from shapestore.schemas.array import ArraySpec
from shapestore.schemas.base import Strict, canonical_json, digest
from shapestore.schemas.recipe import Recipe
from shapestore.schemas.store_schema import StoreSchema
from shapestore.store.catalogue import (
    LOG_COLUMNS,
    PROVENANCE_COLUMNS,
    QUARANTINE_COLUMNS,
    integrity_columns,
    row_columns,
)
from shapestore.store.columns import Column, coded
from shapestore.store.layout import FORMAT, INTEGRITY, PROVENANCE, QUARANTINE, ROOT, work_folder
from shapestore.store.regular import read_regular
from shapestore.store.root_rules import contradictions
from shapestore.store.rowcodec import ZSTD_LEVEL

KEY = "shapestore"
"""The one root attribute that holds all that is said here."""

CONVENTION = {
    "uuid": "8c9f1f5e-6a0b-4a53-9d5c-2f6f0f2b7a11",
    "name": KEY,
    "description": "One row a shape: typed arrays for learning on 3D shapes, with integrity, quarantine and provenance",
}
"""How the key is declared as a Zarr convention; its JSON schema is `shapestore/store/convention.json`."""

MAX_ROOT_BYTES = 32 * 2**20
"""Most bytes of a root: that of a thousand million rows has 24 MiB, and parsed it takes some 20 times its size."""


class Root(Strict):
    """One commit of a store."""

    format: int = FORMAT
    """Number of the store format."""
    content: StoreSchema = Field(alias="schema")
    """All arrays and their rules."""
    recipe: Recipe
    """What was computed, and how."""
    recipe_digest: str
    """Digest of the recipe: later writes must have the same."""
    source_kind: str
    """Kind of source that the rows come from."""
    rows_per_shard: PositiveInt
    """Rows of one shard of every array: a row group."""
    rows: NonNegativeInt = 0
    """Rows, empty ones included."""
    valid: NonNegativeInt = 0
    """Rows that hold data."""
    quarantined: NonNegativeInt = 0
    """Rows that are empty because their input is quarantined."""
    codes: Mapping[str, tuple[str, ...]] = {"split": (), "category": ()}
    """Names behind the codes of `split`, `category` and every named split set; names are only ever appended."""
    chunks: Mapping[str, tuple[str, ...]] = {}
    """Digest of the committed values in every chunk of every index array."""
    integrity: str = ""
    """Sha256 over the digests of the group `integrity`."""

    @cached_property
    def row_columns(self) -> tuple[Column, ...]:
        """Every index array at the root."""
        return row_columns(self.content.index_arrays, dict(self.codes))

    @cached_property
    def integrity_columns(self) -> tuple[Column, Column]:
        """Size and digest of every shard."""
        return integrity_columns(tuple(spec.name for spec in self.content.data_arrays), self.rows_per_shard)

    @property
    def row_groups(self) -> int:
        """Number of row groups, the last of which may be partly filled."""
        return -(-self.rows // self.rows_per_shard)

    def group_rows(self, group: int) -> int:
        """Rows of one row group."""
        return min(self.rows_per_shard, self.rows - group * self.rows_per_shard)

    def lengths(self) -> Iterator[tuple[Column, int]]:
        """Every index array with its number of values."""
        yield from ((column, self.rows) for column in (*self.row_columns, *PROVENANCE_COLUMNS))
        yield from ((column, self.quarantined) for column in QUARANTINE_COLUMNS)
        yield from ((column, self.row_groups) for column in self.integrity_columns)
        yield from ((column, 1) for column in LOG_COLUMNS)

    @cached_property
    def column_lengths(self) -> Mapping[str, int]:
        """Number of values of every index array, by its path."""
        return {column.path: length for column, length in self.lengths()}

    def members(self) -> dict[str, dict[str, Any]]:
        """Zarr metadata of every group and array below the root, by path."""
        nodes = {name: group_metadata({}) for name in (INTEGRITY, PROVENANCE, QUARANTINE)}
        for spec in self.content.data_arrays:
            nodes[spec.name] = data_array_metadata(spec, self.rows, self.rows_per_shard)
        for column, length in self.lengths():
            nodes[column.path] = column_metadata(column, length)
        return dict(sorted(nodes.items()))

    def document(self) -> dict[str, Any]:
        """The root `zarr.json` as JSON values, signed with the sha256 of its own canonical content."""
        own = self.model_dump(mode="json", by_alias=True)
        attributes = {
            "zarr_conventions": [CONVENTION],
            "coordinates": " ".join(column.path for column in self.row_columns),
            KEY: own,
        }
        document = group_metadata(attributes)
        document["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": self.members()}
        own["sha256"] = digest(document)
        return document

    def to_bytes(self) -> bytes:
        """The root `zarr.json`."""
        return json.dumps(self.document(), indent=1, ensure_ascii=False).encode()

    @property
    def sha256(self) -> str:
        """Identity of the commit: the sha256 of the root's canonical content."""
        text: str = self.document()["attributes"][KEY]["sha256"]
        return text


def read_root(path: Path) -> tuple[Root, bytes]:
    """Read the root of the store at `path`: the last commit, and the bytes it was read from.

    Raises
    ------
    NotAStore
        There is no store at the path.
    NewerFormat
        The store was written in a later format.
    StoreDamaged
        The root is not what a writer made.
    """
    file = path / ROOT
    try:
        data = read_regular(file, MAX_ROOT_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise NotAStore(_why_no_store(path)) from None
    except ValueError as error:
        raise StoreDamaged(f"{file} is no root of a store: {error}.") from None
    return parse_root(data, path), data


def parse_root(data: bytes, path: Path) -> Root:
    """Check and parse the bytes of a root; `path` is for the messages."""
    file = path / ROOT
    remedy = f"Restore {file} from a copy, or ingest again into a new path."
    try:
        document = json.loads(data, parse_constant=_refuse_constant)
        if "zarr_format" in document and KEY not in document["attributes"]:
            raise NotAStore(f"{path} is a Zarr node, but no shapestore store. Make one with: shapestore ingest.")
        own = document["attributes"][KEY]
        number = own["format"]
        signed = own.pop("sha256", None)
        content = digest(document)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise StoreDamaged(f"{file} is damaged: it is not the JSON that a writer made. {remedy}") from None
    if not isinstance(number, int) or number > FORMAT:
        raise NewerFormat(
            f"{path} has format {number}, this shapestore reads format {FORMAT}. Upgrade: pip install -U shapestore."
        )
    if signed != content:
        raise StoreDamaged(f"{file} is damaged: its content does not match its sha256. {remedy}")
    try:
        root = Root.model_validate(own)
    except ValidationError as error:
        raise StoreDamaged(f"{file} is damaged: {error.errors()[0]['msg']}. {remedy}") from None
    if wrong := next(contradictions(root), None):
        raise StoreDamaged(f"{file} is damaged: {wrong}. {remedy}")
    return root


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _why_no_store(path: Path) -> str:
    if not path.exists():
        return f"{path} does not exist. Make a store with: shapestore ingest SOURCE RAW {path}."
    if work_folder(path).exists():
        return f"{path} holds no commit yet: its ingest is unfinished. Run the same ingest command again to go on."
    return f"{path} is no shapestore store: it has no {ROOT}."


def group_metadata(attributes: dict[str, Any]) -> dict[str, Any]:
    """Zarr v3 metadata of a group."""
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def data_array_metadata(spec: ArraySpec, rows: int, rows_per_shard: int) -> dict[str, Any]:
    """Zarr v3 metadata of a mapped or packed array: shards of whole rows, every row a chunk with its checksum."""
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    checksum = {"name": "crc32c"}
    zstd = {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}}
    inner = [little, *([zstd] if spec.kind == "packed" else []), checksum]
    sharding = {
        "chunk_shape": [1, *spec.shape],
        "codecs": inner,
        "index_codecs": [little, checksum],
        "index_location": "end",
    }
    attributes: dict[str, Any] = {"units": spec.units, "long_name": spec.long_name, "role": spec.role}
    if spec.pool is not None:
        attributes["pool"] = spec.pool
    if spec.comment:
        attributes["comment"] = spec.comment
    if spec.codes:
        attributes |= coded(tuple(code.name for code in spec.codes))
        attributes["flag_values"] = [code.value for code in spec.codes]
    return _array_metadata(
        (rows, *spec.shape),
        (rows_per_shard, *spec.shape),
        spec.dtype,
        spec.fill,
        [{"name": "sharding_indexed", "configuration": sharding}],
        ("shape", *spec.dims),
        attributes,
    )


def column_metadata(column: Column, length: int) -> dict[str, Any]:
    """Zarr v3 metadata of an index array: whole chunks with a checksum each."""
    name = "vlen-utf8" if column.dtype == "string" else "bytes"
    encoder: dict[str, Any] = {"name": name}
    if name == "bytes":
        encoder["configuration"] = {"endian": "little"}
    return _array_metadata(
        (length, *column.shape),
        (column.chunk_rows, *column.shape),
        column.dtype,
        column.fill,
        [encoder, {"name": "crc32c"}],
        column.dims,
        {"units": column.units, "long_name": column.long_name, **column.attributes},
    )


def _array_metadata(
    shape: tuple[int, ...],
    chunk: tuple[int, ...],
    dtype: str,
    fill: Any,
    codecs: list[dict[str, Any]],
    dims: tuple[str, ...],
    attributes: dict[str, Any],
) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": float(fill) if dtype.startswith("float") else fill,
        "codecs": codecs,
        "attributes": attributes,
        "dimension_names": list(dims),
    }


def node_bytes(metadata: dict[str, Any]) -> bytes:
    """The `zarr.json` of a node below the root."""
    return canonical_json(metadata)
