"""Names from raw files and stores are shown, never obeyed: not by a terminal, not by a page, not by Rich."""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shapestore.cli import output
from shapestore.schemas.printable import printable
from tests.faults.security.commands import Ended, run_commands
from tests.faults.security.forge import copy_of
from tests.faults.security.names import NAMES, named

EVIL = "".join(NAMES[name] for name in ("escapes", "direction", "markup", "html", "formula", "mathtext"))

ROW = 4


def unshown(text: str) -> set[str]:
    """Characters that a terminal obeys, or that turn text round."""
    return {c for c in text if c != "\n" and (unicodedata.category(c)[0] == "C" or c in "\u2028\u2029")}


@given(text=st.text())
def test_what_is_printable_holds_no_control_character_and_is_text(text: str) -> None:
    shown = printable(text)
    assert unshown(shown) == set()
    assert "\n" not in shown
    assert printable(shown) == shown
    assert shown.encode().decode() == shown
    if not unshown(text) and "\n" not in text:
        assert shown == text


@given(text=st.text())
def test_line_ends_stay_where_they_are_kept(text: str) -> None:
    assert printable(text, keep="\n").count("\n") == text.count("\n")


@pytest.mark.parametrize("name", NAMES)
def test_a_table_shows_a_name_character_by_character(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20000")
    text = NAMES[name]
    output.print_table(("a", "b"), [(text, 1)], title="title")
    output.print_pairs([(text, text)])
    output.status().print(f"note: {text}")
    out, err = capsys.readouterr()
    assert unshown(out + err) == set()
    assert out.count(printable(text)) == 3
    assert printable(text, keep="\n") in err


def test_colours_of_a_terminal_are_ours_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.delenv("NO_COLOR", raising=False)
    console = output._Verbatim(force_terminal=True, color_system="truecolor", width=1000)
    with console.capture() as captured:
        console.print(EVIL)
    assert captured.get().rstrip("\n") == printable(EVIL)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    )
)
def test_json_is_exact_and_obeyed_by_no_terminal(value: object) -> None:
    text = _json_of(value)
    assert text.isascii()
    assert unshown(text) == set()
    assert json.loads(text) == value


def test_json_has_null_for_what_is_no_number() -> None:
    """RFC 8259 knows neither NaN nor infinity, and programs other than Python refuse them."""
    assert json.loads(_json_of([float("nan"), float("inf"), 1.5]), parse_constant=_fail) == [None, None, 1.5]


def _fail(name: str) -> None:
    raise AssertionError(name)


def _json_of(value: object) -> str:
    import io
    from contextlib import redirect_stdout

    with redirect_stdout(io.StringIO()) as out:
        output.print_json(value)
    return out.getvalue()


@pytest.fixture(scope="module")
def evil(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which everything is named `EVIL`."""
    path = copy_of(sound, tmp_path_factory.mktemp("evil") / "s.zarr")
    named(EVIL, path)
    return path


@pytest.fixture(scope="module")
def ended(evil: Path, sound: Path) -> Mapping[str, Ended]:
    commands = {
        "info": ("info", evil),
        "ls": ("ls", evil),
        "show": ("show", evil, "--picture", evil.parent / "row.png", "--", f"{EVIL}{ROW}"),
        "why": ("why", evil, "--", f"{EVIL}{ROW}"),
        "why of a quarantined row": ("why", evil, "--", f"{EVIL}3"),
        "quarantine": ("quarantine", evil, "--traceback"),
        "diff": ("diff", sound, evil),
        "validate": ("validate", evil, "--workers", 0, "--compare", sound),
        "validate with a report": ("validate", evil, "--workers", 0, "--report", evil.parent / "report.html"),
        "export": ("export", evil, evil.parent / "out"),
        "no such shape": ("show", evil, "--", f"{EVIL}{ROW}{ROW}"),
        "no such split": ("ls", evil, "--where", "split=train"),
    }
    texts = {name: [str(word) for word in words] for name, words in commands.items()}
    machines = {f"{name} --json": [words[0], "--json", *words[1:]] for name, words in texts.items()}
    found = run_commands([*texts.values(), *machines.values()])
    return dict(zip([*texts, *machines], found, strict=True))


COMMANDS = (
    "info", "ls", "show", "why", "why of a quarantined row", "quarantine", "diff", "validate",
    "validate with a report", "export", "no such shape", "no such split",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    COMMANDS,
)
def test_no_command_hands_a_name_to_the_terminal(command: str, ended: Mapping[str, Ended]) -> None:
    end = ended[command]
    assert end.code in (0, 2, 3), end.err
    assert unshown(end.out + end.err) == set()
    assert "fault of shapestore" not in end.err


@pytest.mark.slow
@pytest.mark.parametrize("command", [name for name in COMMANDS if not name.startswith("no such") and name != "export"])
def test_json_of_a_command_holds_the_name_itself(command: str, ended: Mapping[str, Ended]) -> None:
    end = ended[f"{command} --json"]
    assert end.out.isascii()
    assert EVIL in "".join(_texts(json.loads(end.out, parse_constant=_fail)))


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    return [str(value)]


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.addresses: set[str] = set()
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}
        self.addresses |= {value or "" for name, value in attrs if name in ("href", "src", "xlink:href", "action")}

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def report(evil: Path, ended: Mapping[str, Ended]) -> Path:
    assert "report" in ended["validate with a report"].err
    return evil.parent / "report.html"


@pytest.mark.slow
def test_a_report_shows_names_as_text(report: Path) -> None:
    html = report.read_text()
    page = Page(html)
    assert unshown(html) == set()
    assert page.tags.isdisjoint({"script", "iframe", "object", "embed", "form", "base", "foreignobject"})
    assert not any(name.startswith("on") for name in page.names)
    assert all(each.startswith(("#", "data:image/png;base64,")) or each == "data:," for each in page.addresses)
    assert "<script>alert(1)</script>" in page.text
    assert printable(EVIL) in page.text
    assert "{{ 7 * 7 }}" in page.text


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")), reason="chromium and its driver are not installed"
)
def test_a_browser_runs_nothing_and_asks_for_nothing(report: Path, tmp_path: Path) -> None:
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"):
        options.add_argument(flag)
    options.binary_location = str(shutil.which("chromium"))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(options=options, service=ChromeService(str(shutil.which("chromedriver"))))
    try:
        browser.get(report.as_uri())
        assert browser.get_log("browser") == []
        assert browser.execute_script("return document.scripts.length") == 0
        requested = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
        assert [each for each in requested if not each.startswith("data:")] == []
    finally:
        browser.quit()
