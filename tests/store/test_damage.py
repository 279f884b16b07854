"""Whatever happens to a file of a store, a reader says so: never zeros, never other rows, never garbage."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import shapestore
from shapestore.errors import NewerFormat, NotAStore, StoreDamaged
from shapestore.store.root import Root, parse_root
from shapestore.store.rowcodec import crc32c
from tests.store.conftest import ROWS_PER_SHARD, Built, build

ROW = {"pc_xyz": 12 * 3 * 4 + 4, "pc_mask": 12 + 4}
INDEX = 16 * ROWS_PER_SHARD + 4


def shard(built: Built, name: str, group: int) -> Path:
    return built.path.joinpath(name, "c", str(group), *["0"] * len(built.schema.by_name[name].shape))


def flip(file: Path, at: int, mask: int = 1) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= mask
    file.write_bytes(data)


def assert_damaged(built: Built, name: str, group: int, at_mapping: bool = True, **options: Any) -> None:
    """Every way to read the shard, or its first row, says what is damaged; other shards and arrays read as before."""
    rows = [row for row in built.valid if row // ROWS_PER_SHARD == group]
    last = min(built.rows, (group + 1) * ROWS_PER_SHARD) - 1
    named = f"rows {group * ROWS_PER_SHARD} to {last}" if at_mapping else f"row {rows[0]}"
    where = rf"{re.escape(str(shard(built, name, group)))}.*\({name}, {named}\)"
    store = shapestore.open(built.path, **options)
    asked: list[Callable[[], Any]] = [lambda: store[name][rows[0]], lambda: store.read(rows, [name])]
    asked.append(lambda: store.tensor(name, rows[0]))
    if at_mapping:
        asked.append(lambda: store.shard(name, group))
    for ask in asked:
        with pytest.raises(StoreDamaged, match=where) as caught:
            ask()
        assert "from a copy" in str(caught.value)
    for other in built.schema.data_arrays:
        for row in built.valid:
            if (other.name, row // ROWS_PER_SHARD) != (name, group):
                assert store[other.name][row].tobytes() == built.arrays(row)[other.name].tobytes()


def truncated(built: Built) -> None:
    file = shard(built, "pc_xyz", 1)
    file.write_bytes(file.read_bytes()[:-1])


def emptied(built: Built) -> None:
    shard(built, "pc_xyz", 1).write_bytes(b"")


def grown(built: Built) -> None:
    file = shard(built, "pc_xyz", 1)
    file.write_bytes(file.read_bytes() + b"\0")


def zeroed(built: Built) -> None:
    file = shard(built, "pc_xyz", 1)
    file.write_bytes(bytes(file.stat().st_size))


def missing(built: Built) -> None:
    shard(built, "pc_xyz", 1).unlink()


def missing_with_its_folders(built: Built) -> None:
    shutil.rmtree(built.path / "pc_xyz" / "c" / "1")


def a_file_in_place_of_its_folder(built: Built) -> None:
    missing_with_its_folders(built)
    (built.path / "pc_xyz" / "c" / "1").write_bytes(b"")


def a_folder_in_its_place(built: Built) -> None:
    missing(built)
    shard(built, "pc_xyz", 1).mkdir()


def of_another_row_group(built: Built) -> None:
    shutil.copy(shard(built, "pc_xyz", 0), shard(built, "pc_xyz", 1))


def of_another_array(built: Built) -> None:
    shutil.copy(shard(built, "pc_n", 1), shard(built, "pc_xyz", 1))


def of_another_store(built: Built) -> None:
    other = build(built.path.with_name("other.zarr"), built.rows, (3, 10))
    shutil.copy(shard(other, "pc_xyz", 1), shard(built, "pc_xyz", 1))


def checksum_flipped(built: Built) -> None:
    flip(shard(built, "pc_xyz", 1), 3 * ROW["pc_xyz"] - 1)


def index_flipped(built: Built) -> None:
    flip(shard(built, "pc_xyz", 1), -INDEX + 3)


def index_checksum_flipped(built: Built) -> None:
    flip(shard(built, "pc_xyz", 1), -1)


def rows_swapped_in_the_index(built: Built) -> None:
    file = shard(built, "pc_xyz", 1)
    data = bytearray(file.read_bytes())
    body = bytes(data[-INDEX:-4])
    body = body[16:32] + body[:16] + body[32:]
    data[-INDEX:] = body + crc32c(body).to_bytes(4, "little")
    file.write_bytes(data)


def a_row_left_out_of_the_index(built: Built) -> None:
    file = shard(built, "pc_xyz", 1)
    data = bytearray(file.read_bytes())
    body = b"\xff" * 16 + bytes(data[-INDEX + 16 : -4])
    data[-INDEX:] = body + crc32c(body).to_bytes(4, "little")
    file.write_bytes(data)


AT_MAPPING = (
    truncated,
    emptied,
    grown,
    zeroed,
    missing,
    missing_with_its_folders,
    a_file_in_place_of_its_folder,
    a_folder_in_its_place,
    of_another_row_group,
    of_another_array,
    of_another_store,
    checksum_flipped,
    index_flipped,
    index_checksum_flipped,
    rows_swapped_in_the_index,
    a_row_left_out_of_the_index,
)


@pytest.mark.parametrize("damage", AT_MAPPING, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("checksums", ["off", "always"])
def test_a_shard_that_is_not_the_committed_one_is_found_when_it_is_mapped(
    copied: Built, damage: Callable[[Built], None], checksums: str
) -> None:
    damage(copied)
    assert_damaged(copied, "pc_xyz", 1, checksums=checksums)


def test_a_packed_shard_that_is_not_the_committed_one_is_found(copied: Built) -> None:
    shutil.copy(shard(copied, "udf_grid", 0), shard(copied, "udf_grid", 1))
    assert_damaged(copied, "udf_grid", 1)


@pytest.mark.parametrize("name", ["pc_xyz", "udf_grid", "pc_mask"])
@pytest.mark.parametrize("checksums", ["first", "always"])
def test_a_flipped_bit_in_a_row_is_found_when_the_row_is_read(copied: Built, name: str, checksums: str) -> None:
    flip(shard(copied, name, 0), 5, mask=16)
    assert_damaged(copied, name, 0, at_mapping=False, checksums=checksums)


def test_without_checksums_a_flipped_bit_stays_in_its_row(copied: Built) -> None:
    flip(shard(copied, "pc_xyz", 0), 5, mask=16)
    store = shapestore.open(copied.path, checksums="off")
    assert store["pc_xyz"][0].tobytes() != copied.arrays(0)["pc_xyz"].tobytes()
    for row in copied.valid[1:]:
        assert store["pc_xyz"][row].tobytes() == copied.arrays(row)["pc_xyz"].tobytes()


def test_a_packed_row_that_cannot_be_unpacked_is_found_even_without_checksums(copied: Built) -> None:
    flip(shard(copied, "udf_grid", 0), 0, mask=255)
    with pytest.raises(StoreDamaged, match=r"udf_grid, row 0\)"):
        shapestore.open(copied.path, checksums="off")["udf_grid"][0]


def test_first_and_always_differ_in_when_they_look(copied: Built) -> None:
    stores = {mode: shapestore.open(copied.path, checksums=mode) for mode in ("first", "always")}
    for store in stores.values():
        store["pc_xyz"][0]
    data = bytearray(shard(copied, "pc_xyz", 0).read_bytes())
    data[5] ^= 16
    with shard(copied, "pc_xyz", 0).open("rb+") as file:  # in place: the maps see it
        file.write(data)
    assert stores["first"]["pc_xyz"][0].tobytes() != copied.arrays(0)["pc_xyz"].tobytes()
    with pytest.raises(StoreDamaged):
        stores["always"]["pc_xyz"][0]


@pytest.mark.parametrize("row", [8, 10, 15])
def test_a_row_is_read_without_touching_any_other(copied: Built, row: int) -> None:
    file = shard(copied, "pc_xyz", 1)
    data = bytearray(file.read_bytes())
    for slot in range(ROWS_PER_SHARD):
        start = slot * ROW["pc_xyz"]
        if slot != row - ROWS_PER_SHARD:
            data[start : start + ROW["pc_xyz"] - 4] = b"\xaa" * (ROW["pc_xyz"] - 4)
    file.write_bytes(data)
    store = shapestore.open(copied.path, checksums="always")
    expected = copied.arrays(row)["pc_xyz"]
    assert store["pc_xyz"][row].tobytes() == expected.tobytes()
    assert store.read([row, row], ["pc_xyz"])["pc_xyz"].tobytes() == expected.tobytes() * 2
    with pytest.raises(StoreDamaged):
        store.read([row, 11], ["pc_xyz"])


COLUMNS = ["valid", "split", "shape_id", "shift", "integrity/size", "integrity/sha256", "quarantine/message"]


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "flipped", "replaced", "folder"])
def test_a_damaged_index_chunk_is_found(copied: Built, name: str, damage: str) -> None:
    dims = {"shift": 1, "integrity/size": 1, "integrity/sha256": 2}.get(name, 0)
    file = copied.path.joinpath(name, "c", "0", *["0"] * dims)
    data = file.read_bytes()
    file.unlink()
    if damage == "replaced":
        other = build(copied.path.with_name("other.zarr"), copied.rows - 1, (1, 2, 10))
        shutil.copy(other.path / file.relative_to(copied.path), file)
    elif damage == "folder":
        file.mkdir()
    elif damage != "missing":
        flipped = bytes([data[0], data[1] ^ 1]) + data[2:]
        file.write_bytes({"empty": b"", "truncated": data[:-9], "flipped": flipped}[damage])
    store = shapestore.open(copied.path)
    with pytest.raises(StoreDamaged, match=re.escape(str(file))):
        store.index(name)


def test_a_missing_array_is_found_when_the_store_is_opened(copied: Built) -> None:
    shutil.rmtree(copied.path / "pc_n")
    with pytest.raises(StoreDamaged, match=r"array pc_n is missing.*shapestore validate"):
        shapestore.open(copied.path)


def root_bytes(built: Built) -> bytes:
    return (built.path / "zarr.json").read_bytes()


def parsed_or_refused(data: bytes, path: Path) -> Root | None:
    """What is read from root bytes; None where they are refused with a text for people."""
    try:
        return parse_root(data, path)
    except (StoreDamaged, NewerFormat, NotAStore) as error:
        message = str(error)
    assert str(path) in message
    assert len(message) < 1000
    return None


def flipped_anywhere(data: bytes, at: int, value: int) -> bytes:
    changed = bytearray(data)
    changed[at % len(data)] = value
    return bytes(changed)


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, 2**20), value=st.integers(0, 255))
def test_any_changed_byte_of_the_root_is_found(built: Built, at: int, value: int) -> None:
    """Other bytes with the same content, such as another blank, are the same root."""
    data = root_bytes(built)
    found = parsed_or_refused(flipped_anywhere(data, at, value), built.path)
    assert found is None or found == parse_root(data, built.path)


@settings(max_examples=60, deadline=None)
@given(length=st.integers(0, 2**20))
@example(length=0)
@example(length=1)
def test_a_truncated_root_is_found(built: Built, length: int) -> None:
    data = root_bytes(built)
    assert parsed_or_refused(data[: length % len(data)], built.path) is None


@pytest.mark.parametrize("digits", [b"65536"])
@pytest.mark.parametrize("letter", [b"e", b"E"])
def test_a_number_that_a_flip_makes_infinite_is_found(built: Built, digits: bytes, letter: bytes) -> None:
    """One changed byte makes 65536 to 6e536, which JSON readers take for infinity."""
    data = root_bytes(built)
    assert digits in data
    changed = data.replace(digits, digits[:1] + letter + digits[2:], 1)
    assert parsed_or_refused(changed, built.path) is None


STRANGE = [
    b"",
    b"\0",
    b"{}",
    b"[]",
    b"null",
    b'"shapestore"',
    b'{"attributes": {"shapestore": 1}}',
    b"\xff\xfe",
    b"NaN",
]


@pytest.mark.parametrize("data", [*STRANGE, b'{"attributes": {"shapestore": {"format": 1}}}'], ids=repr)
def test_a_strange_root_is_refused(tmp_path: Path, data: bytes) -> None:
    assert parsed_or_refused(data, tmp_path) is None


def signed_again(built: Built, **changes: Any) -> bytes:
    """The root with other values and a right sha256: what only a writer can make."""
    from shapestore.schemas.base import digest

    document = json.loads(root_bytes(built))
    own = document["attributes"]["shapestore"]
    del own["sha256"]
    own |= changes
    own["sha256"] = digest(document)
    return json.dumps(document).encode()


def test_a_newer_format_is_refused_with_what_to_do(copied: Built) -> None:
    (copied.path / "zarr.json").write_bytes(signed_again(copied, format=2, unheard_of=True))
    with pytest.raises(NewerFormat, match=r"has format 2, this shapestore reads format 1.*pip install -U"):
        shapestore.open(copied.path)


@pytest.mark.parametrize("changes", [{"unheard_of": True}, {"rows": -1}, {"schema": {}}, {"rows": "x"}])
def test_a_root_that_breaks_the_model_is_refused(built: Built, changes: dict[str, Any]) -> None:
    with pytest.raises(StoreDamaged):
        parse_root(signed_again(built, **changes), built.path)


def test_what_is_no_store_is_called_so(built: Built, tmp_path: Path) -> None:
    import zarr

    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("text")
    (tmp_path / "unfinished.zarr").mkdir()
    (tmp_path / "unfinished.zarr.ingest").mkdir()
    zarr.create_group(tmp_path / "other.zarr", attributes={"title": "made for shapestore users"})
    wanted = {
        tmp_path / "nowhere": "does not exist",
        tmp_path / "folder": r"has no zarr\.json",
        tmp_path / "file": "no shapestore store",
        tmp_path / "unfinished.zarr": "Run the same ingest command again",
        tmp_path / "other.zarr": "no shapestore store",
        built.path / "pc_xyz": "no shapestore store",
    }
    for path, text in wanted.items():
        with pytest.raises(NotAStore, match=text):
            shapestore.open(path)


def test_damage_is_never_zeros(copied: Built) -> None:
    """The one thing that Zarr readers do with a lost chunk."""
    import zarr

    missing(copied)
    lost = zarr.open_array(copied.path / "pc_xyz", mode="r")[8:16]
    assert np.count_nonzero(np.asarray(lost)) == 0
    with pytest.raises(StoreDamaged):
        shapestore.open(copied.path).read(np.arange(10, 16), ["pc_xyz"])
