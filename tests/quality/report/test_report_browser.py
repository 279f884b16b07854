"""The report in a real browser: nothing is logged, nothing requested, nothing cut off, every picture there."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from shapestore import api
from shapestore.quality.report.page import write_report
from tests.quality.defects.spoil import spoil
from tests.quality.report.conftest import Hearts, measure, validation

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="chromium and chromium-driver are not installed")


@pytest.fixture(scope="module")
def report(hearts: Hearts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything in it: findings, slices, histograms, many checks, names without a place to break."""
    folder = tmp_path_factory.mktemp("browser")
    flipped = spoil(
        hearts.store.path, folder / f"{'long' * 30}.zarr", lambda s, row: {"vol_sdf": -s.row("vol_sdf", row)}, rows=[1]
    )
    store = api.open(flipped)
    measures = [
        measure(store, [0.5, 0.9], "vol_sdf", low=0.3, high=0.7, unit="in words that say what it is"),
        measure(store, [1e-9, 4e-3], "near_sdf", name=f"share_of_{'x' * 120}", high=1e-3, severity="warning"),
        measure(store, [0.1, 0.2], "surface_points", high=0.9),
    ]
    found = validation(store, measures)
    counted = tuple(each.model_copy(update={"distribution": None}) for each in found.checks[0].measures)
    others = tuple(
        found.checks[0].model_copy(update={"name": f"another-{number}", "measures": counted}) for number in range(14)
    )
    found = found.model_copy(update={"checks": found.checks + others})
    write_report(found, store, folder / "report.html", hearts.raw)
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = ChromeOptions()
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.binary_location = str(BROWSER)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=ChromeService(DRIVER))
    yield driver
    driver.quit()


def look(browser: Chrome, page: Path, width: int, scheme: str, media: str = "screen") -> None:
    """Open a page as on a screen of this width."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    browser.get(page.as_uri())


def requested(browser: Chrome, page: Path) -> list[str]:
    """Addresses that a page asked for since this was last asked, without what it holds itself."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    urls = [each["request"]["url"] for each in sent if each["documentURL"] == page.as_uri()]
    return [url for url in urls if not url.startswith("data:")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1400])
def test_a_browser_shows_all_of_it(width: int, scheme: str, report: Path, browser: Chrome, tmp_path: Path) -> None:
    browser.get_log("browser")
    requested(browser, report)
    look(browser, report, width, scheme)
    assert browser.get_log("browser") == []
    assert requested(browser, report) == [report.as_uri()]
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.execute_script("return innerWidth") == width
    sizes = browser.execute_script("return [...document.images].map(image => image.naturalWidth)")
    assert len(sizes) > 5
    assert min(sizes) > 0
    area = {"x": 0, "y": 0, "width": width, "height": 6000, "scale": 1}
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": area})
    (tmp_path / f"report-{width}-{scheme}.png").write_bytes(base64.b64decode(shot["data"]))


def luminance(colour: str) -> float:
    red, green, blue = (
        (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4)
        for c in (int(part) / 255 for part in colour.strip("rgba()").split(",")[:3])
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_also_in_charts(scheme: str, report: Path, browser: Chrome) -> None:
    """At least 4.5 to 1, as WCAG 2.1 asks of text."""
    look(browser, report, 1400, scheme)
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    colours = browser.execute_script(
        "return [getComputedStyle(document.body).color, ...[...document.querySelectorAll('.pale, .error, .warning')]"
        ".map(e => getComputedStyle(e).color), ...[...document.querySelectorAll('svg text')]"
        ".map(e => getComputedStyle(e).fill)]"
    )
    for colour in set(colours):
        light, dark = sorted((luminance(colour), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 4.5, colour


def test_what_scrolls_and_what_opens_is_reached_by_keyboard(report: Path, browser: Chrome) -> None:
    look(browser, report, 360, "light")
    unreached = browser.execute_script(
        "return [...document.querySelectorAll('main *')].filter(e => e.scrollWidth > e.clientWidth + 1"
        " && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX) && e.tabIndex < 0).map(e => e.outerHTML)"
    )
    assert unreached == []
    assert browser.execute_script("return [...document.querySelectorAll('summary')].every(e => e.tabIndex >= 0)")


def test_print_opens_what_is_folded_and_cuts_nothing(report: Path, browser: Chrome) -> None:
    look(browser, report, 760, "dark", "print")
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    heights = browser.execute_script(
        "return [...document.querySelectorAll('details > :not(summary)')].map(e => e.getBoundingClientRect().height)"
    )
    assert min(heights) > 0
    assert np.all(
        browser.execute_script(
            "return [...document.querySelectorAll('.scroll')].map(e => e.scrollHeight <= e.clientHeight + 1)"
        )
    )
