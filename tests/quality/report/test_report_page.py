from __future__ import annotations

import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from shapestore import api
from shapestore.errors import UsageError
from shapestore.quality.compare import compare_stores
from shapestore.quality.finding import Finding
from shapestore.quality.moved import Moved
from shapestore.quality.report import page
from shapestore.quality.report.page import write_report
from shapestore.quality.result import Compared, Validation
from shapestore.quality.waivers import Waiver
from shapestore.store.reader import Store
from tests.quality.report.conftest import SMALL, measure, validation

VOID = {"meta", "link", "img", "br"}
HOSTILE = "<script>alert('x')</script>\"&{{ 7 * 7 }}"


class Checked(HTMLParser):
    """Holds the page to what every browser needs: closed elements, ids that are unique, links that lead somewhere."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.elements: Counter[str] = Counter()
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []
        assert len(self.ids) == len(set(self.ids))
        assert {link.removeprefix("#") for link in self.links if link.startswith("#")} <= set(self.ids)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.elements[tag] += 1
        if tag not in VOID:
            self.open.append(tag)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        for name in ("href", "xlink:href", "src", "srcset", "action", "data", "poster"):
            if name in given:
                self.links.append(str(given[name]))
        assert tag != "img" or (given.get("alt") and given.get("width") and given.get("height"))
        assert tag not in ("script", "iframe", "object", "embed", "form")
        assert not any(name.startswith("on") for name in given)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data.split()

    @property
    def text(self) -> str:
        return " ".join(self.words)


def report(found: Validation, store: Store, folder: Path) -> Checked:
    write_report(found, store, folder / "report.html")
    return Checked((folder / "report.html").read_text())


def broken_validation(store: Store) -> Validation:
    values = np.linspace(0.3, 0.5, 12)
    values[[2, 7]] = 0.9, 1.0
    return validation(store, [measure(store, values, low=0.2, high=0.7)])


def test_the_page_is_whole_and_needs_nothing_else(meshes: Store, tmp_path: Path) -> None:
    made = report(broken_validation(meshes), meshes, tmp_path)
    assert all(link.startswith(("#", "data:")) for link in made.links)
    html = (tmp_path / "report.html").read_text()
    assert "@import" not in html
    assert "url(" not in re.sub(r'clip-path="url\(#', "", html)
    assert "default-src 'none'" in html
    assert made.elements["svg"] == 1
    assert made.elements["img"] == 4


def test_headings_go_down_one_step_at_a_time(meshes: Store, tmp_path: Path) -> None:
    write_report(broken_validation(meshes), meshes, tmp_path / "r.html")
    levels = [int(level) for level in re.findall(r"<h(\d)", (tmp_path / "r.html").read_text())]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_a_verdict_in_words_comes_first_and_findings_say_everything(meshes: Store, tmp_path: Path) -> None:
    found = broken_validation(meshes)
    text = report(found, meshes, tmp_path).text
    assert "✕ Do not train on this store 2 errors." in text
    assert "Guarantee: every row was checked." in text
    finding = found.findings[0]
    for part in (finding.shape_id, "0.2 to 0.7", finding.look, finding.remedy, "2 of 12 rows"):
        assert part in text
    assert text.index(found.findings[0].shape_id) < text.index(found.findings[1].shape_id)


def test_names_and_messages_cannot_become_markup(meshes: Store, tmp_path: Path) -> None:
    row = int(meshes.rows()[0])
    finding = Finding(
        severity="error", check=HOSTILE, message=HOSTILE, row=row, shape_id=HOSTILE, place=HOSTILE, remedy=HOSTILE
    )
    found = validation(
        meshes,
        [measure(meshes, np.arange(12.0), name=HOSTILE, high=5, unit=HOSTILE)],
        [finding],
        [Waiver(check="rays", shape=HOSTILE, reason=HOSTILE)],
    )
    found = found.model_copy(update={"store": f"/tmp/{HOSTILE}", "guarantee": HOSTILE})  # noqa: S108
    made = report(found, meshes, tmp_path)
    assert made.text.count("<script>alert('x')</script>\"&{{ 7 * 7 }}") > 8
    assert "49" not in made.text.split("Summary")[0]


def test_the_same_validation_and_store_give_the_same_bytes(meshes: Store, tmp_path: Path) -> None:
    found = broken_validation(meshes)
    write_report(found, meshes, tmp_path / "a.html")
    write_report(found, api.open(meshes.path), tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_report_is_replaced_whole_or_not_at_all(
    meshes: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report.html"
    write_report(broken_validation(meshes), meshes, out)
    before = out.read_bytes()

    def full_disk(path: Path, data: bytes) -> None:
        path.write_bytes(data[:10])
        raise OSError("no space left")

    monkeypatch.setattr(page, "write_synced", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_report(validation(meshes), meshes, out)
    assert out.read_bytes() == before


def test_a_folder_that_is_not_there_is_refused(meshes: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        write_report(validation(meshes), meshes, tmp_path / "missing" / "report.html")


def test_nothing_wrong_reads_so(meshes: Store, tmp_path: Path) -> None:
    found = validation(meshes, [measure(meshes, np.linspace(0.4, 0.5, 12), low=0.3, high=0.7)])
    made = report(found, meshes, tmp_path)
    for part in ("✓ Nothing wrong was found", "Nothing is out of bounds.", "Nothing was waived.", "nearest to a bound"):
        assert part in made.text
    assert made.elements["img"] == 2


def test_quarantine_is_grouped_by_reason_with_examples(meshes: Store, tmp_path: Path) -> None:
    text = report(validation(meshes), meshes, tmp_path).text
    assert "3 inputs refused" in text
    assert "no faces 3" in text
    assert "bad<b>0" in text


def test_waivers_are_listed_with_reasons_and_do_not_count(meshes: Store, tmp_path: Path) -> None:
    finding = broken_validation(meshes).findings[0]
    values = np.where(meshes.rows() == finding.row, 1.0, 0.5)
    waivers = [
        Waiver(check="sign-balance", shape=finding.shape_id, reason="a solid block"),
        Waiver(check="rays", shape="*", reason="no longer so"),
    ]
    text = report(
        validation(meshes, [measure(meshes, values, low=0.2, high=0.7)], waivers=waivers), meshes, tmp_path
    ).text
    assert "✓ Nothing wrong was found" in text
    assert "Nothing is out of bounds that is not waived." in text
    assert "a solid block: 1 finding accepted" in text
    assert "rays:* no longer so" in text


def test_metadata_alone_makes_a_report_that_says_so(meshes: Store, tmp_path: Path) -> None:
    found = api.validate(meshes.path, "metadata")
    text = report(found, meshes, tmp_path).text
    for part in ("no row was looked at", "No check measured any row.", "No check names a shape.", "No bounded measure"):
        assert part in text
    assert "not run: level metadata looks at no rows" in text


def test_a_store_without_a_valid_row_makes_a_report(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "empty.obj").write_text("")
    api.ingest("meshes", tmp_path / "raw", tmp_path / "s.zarr", settings=SMALL, workers=0)
    found = api.validate(tmp_path / "s.zarr", "full", workers=0)
    assert "0 of 0 rows checked" in report(found, api.open(tmp_path / "s.zarr"), tmp_path).text


def test_a_store_with_a_damaged_index_makes_a_report(meshes: Store, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(meshes.path, tmp_path / "s.zarr"))
    chunk = next(path for path in (copy / "category" / "c").rglob("*") if path.is_file())
    chunk.write_bytes(b"\0" * chunk.stat().st_size)
    found = api.validate(copy, "full", workers=0)
    text = report(found, api.open(copy), tmp_path).text
    assert "Do not train on this store" in text
    assert "too damaged to say" in text


def test_thousands_of_findings_are_counted_not_listed(meshes: Store, tmp_path: Path) -> None:
    one = broken_validation(meshes)
    many = tuple(one.findings[0].model_copy(update={"value": 1 + n / 1e4}) for n in range(5000))
    other = tuple(
        Finding(severity="error", check="integrity", message=f"shard {n} is missing", place=f"pc_xyz/{n}")
        for n in range(3000)
    )
    made = report(one.model_copy(update={"findings": many + other}), meshes, tmp_path)
    assert "and 4,992 more findings" in made.text
    assert "and 2,992 more findings" in made.text
    assert (tmp_path / "report.html").stat().st_size < 2**20


def test_two_hundred_classes_are_all_in_the_matrix(meshes: Store, tmp_path: Path) -> None:
    one = broken_validation(meshes)
    only = one.checks[0].measures[0]
    counts = next(iter(only.categories.values()))
    wide = only.model_copy(update={"categories": {f"class {n}": counts for n in range(200)}})
    checks = (one.checks[0].model_copy(update={"measures": (wide,)}),)
    found = one.model_copy(update={"checks": checks, "findings": ()})
    text = report(found, meshes, tmp_path).text
    assert "200 classes" in text
    assert all(f"class {n} " in text for n in range(200))


def test_thresholds_are_listed_with_the_reason_of_their_default(meshes: Store, tmp_path: Path) -> None:
    text = report(api.validate(meshes.path, "metadata"), meshes, tmp_path).text
    assert "deviation 0.08 Most standard deviation of the share over the rows" in text


def test_what_changed_against_another_store_is_a_section_of_its_own(meshes: Store) -> None:
    plain = validation(meshes, [])
    assert 'id="changes"' not in page.render(page.page_of(plain, meshes, None))
    moved = Moved(
        check="rays",
        measure=HOSTILE,
        rows=12,
        other_rows=12,
        median=0.75,
        other_median=0.25,
        gap=0.5,
        p=1e-9,
        effect=1.0,
    )
    stores = compare_stores(meshes.path, meshes.path).model_copy(update={"added": ("a", "b"), "a": HOSTILE})
    compared = Compared(outcome="3 errors", stores=stores, moved=(moved,))
    html = page.render(page.page_of(plain.model_copy(update={"compared": compared}), meshes, None))
    assert "2 shapes added, 0 removed, 0 changed" in Checked(html).text
    assert "1 measure distributed otherwise" in Checked(html).text
    assert "<script" not in html
