"""The page of `graphc report` in a browser: Chromium, where it is installed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_pages import BAD, hostile, report, two_blocks

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))), None
)
DRIVER = shutil.which("chromedriver")
MISSING = None if BROWSER and DRIVER else "no Chromium with chromedriver here: apt-get install chromium chromium-driver"
pytestmark = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")
PATIENCE = 20.0  # seconds for a page to open, on a busy machine
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1300,850")


class Page:
    """A browser that shows a page; `find` and `all` take CSS selectors."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path, part: str = "") -> None:
        self.driver.get("about:blank")
        self.driver.get(path.as_uri() + (part and f"#{part}"))
        end = time.monotonic() + PATIENCE
        while self.script("return document.documentElement.dataset.ready") != "yes":
            assert time.monotonic() < end, self.problems()
            time.sleep(0.05)

    def script(self, text: str, *args: Any) -> Any:
        return self.driver.execute_script(text, *args)

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        return self.script("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector)

    def type(self, keys: str) -> None:
        self.driver.switch_to.active_element.send_keys(keys)

    def problems(self) -> list[str]:
        """What the browser complained of, and what it fetched."""
        fetched = self.script("return performance.getEntriesByType('resource').map(e => e.name)")
        return [entry["message"] for entry in self.driver.get_log("browser")] + fetched


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install '.[test]'")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for option in OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    yield Page(driver)
    driver.quit()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = two_blocks(tmp_path_factory.mktemp("report"), blocks=12)
    report(model, "--rounds", 1)
    return model.with_suffix(".html")


def box(page: Page, title: str) -> Any:
    found = [b for b in page.all(".box") if b.find_element("css selector", ".title").text == title]
    assert found, f"no box {title}: {page.texts('.box .title')}"
    return found[0]


@pytest.mark.parametrize("part", ["overview", "graph", "profile", "roofline", "memory", "why"])
def test_each_part_opens_and_fetches_nothing(browser: Page, written: Path, part: str):
    browser.open(written, part)
    assert browser.texts("[aria-selected=true]") == [part.capitalize()]
    shown = [s.get_attribute("id") for s in browser.all("main > section") if s.is_displayed()]
    assert shown == [part] and len(browser.find(f"#{part}").text) > 50
    assert browser.problems() == []


def test_groups_unfold_and_fold(browser: Page, written: Path):
    browser.open(written, "graph")
    browser.find("#fold").click()
    few = len(browser.all(".box"))
    browser.find("#unfold").click()
    assert len(browser.all(".box")) == 12 * 3 + 2 and not browser.all(".box.group")
    assert len(browser.all(".edge")) == 12 * 3 + 1 and "1×4×8×8" in browser.texts(".type")
    browser.find("#fold").click()
    assert len(browser.all(".box")) == few == 12 + 2
    browser.script("document.querySelector('.box.group .sign').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    assert len(browser.all(".box")) > few and browser.all(".frame")


def test_a_node_that_is_found_is_unfolded_and_told_of(browser: Page, written: Path):
    browser.open(written, "graph")
    browser.find("#fold").click()
    browser.find("body").send_keys("/")
    browser.type("block7/relu")
    assert browser.find("#said").text == "1 found"
    browser.type("\ue007")  # Enter
    details = browser.find("#details").text
    for part in ("/block7/relu/Relu", "blocks.onnx", "float32[1, 4, 8, 8]", "kernel", "of the roofline", "conv"):
        assert part in details
    chosen = browser.find(".box.chosen")
    assert chosen.find_element("css selector", ".title").text == "Relu"
    area, place = browser.find("#canvas").rect, chosen.rect
    assert area["x"] < place["x"] < area["x"] + area["width"] and area["y"] < place["y"] < area["y"] + area["height"]


def test_keys_go_from_box_to_box(browser: Page, written: Path):
    browser.open(written, "graph")
    browser.find("#unfold").click()
    browser.script("document.querySelector('.box[tabindex=\"0\"]').focus()")
    names = []
    for _ in range(3):
        browser.type("\ue015\ue007")  # down, Enter
        names.append(browser.find("#details h2").text)
    assert names == ["/block0/conv/Conv", "/block0/relu/Relu", "/block0/pool/Pool"]


def test_tables_sort_and_lead_to_the_graph(browser: Page, written: Path):
    browser.open(written, "profile")
    head = next(b for b in browser.all("#profile th button") if b.text == "time")
    head.click()
    column = browser.texts("#profile th button").index("time")
    values = browser.texts(f"#profile td:nth-child({column + 1})")
    units = {"µs": 1, "ms": 1e3, "s": 1e6}
    sorted_ = [float(v.split()[0]) * units[v.split()[1]] for v in values]
    assert sorted_ == sorted(sorted_, reverse=True) and len(sorted_) > 36
    browser.find("#profile .tools input").send_keys("block3/conv")
    rows = browser.all("#profile tbody tr")
    assert len(rows) == 1
    rows[0].click()
    assert browser.find("#graph").is_displayed() and "/block3/conv/Conv: Conv + Relu" in browser.find("#details").text


def test_plots_have_marks_axes_and_units(browser: Page, written: Path):
    browser.open(written, "memory")
    assert len(browser.all("#memory svg [aria-label=rect] rect")) == len(browser.all("#memory tbody tr"))
    assert any("offset in the arena" in text for text in browser.texts("#memory svg text"))
    browser.open(written, "roofline")
    assert len(browser.all("#roofline svg [aria-label=dot] circle")) == 24
    texts = browser.texts("#roofline svg text")
    assert any("operations per byte" in t for t in texts) and any("GB/s of" in t for t in texts)


def test_names_of_a_strangers_file_do_nothing(browser: Page, tmp_path: Path):
    model = hostile(tmp_path)
    report(model, "--rounds", 1)
    for part in ("overview", "graph", "profile", "memory", "why"):
        browser.open(model.with_suffix(".html"), part)
        assert browser.script("return window.hacked") is None and not browser.all("main img, main script")
    browser.open(model.with_suffix(".html"), "graph")
    browser.find("#unfold").click()
    browser.script("document.querySelectorAll('.box')[1].dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    assert browser.find("#details h2").get_property("textContent").endswith(("softmax", "relu"))
    assert browser.script("return document.title").startswith(BAD[:40])
    assert browser.script("return window.hacked") is None and browser.problems() == []


def test_light_and_dark(browser: Page, written: Path):
    browser.open(written)
    seen = set()
    for _ in range(2):
        browser.find("#theme").click()
        theme = browser.script("return document.documentElement.dataset.theme")
        seen.add((theme, browser.script("return getComputedStyle(document.body).backgroundColor")))
    assert seen == {("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 24, 29)")}


def test_all_of_it_is_printed(browser: Page, written: Path):
    """On paper all parts follow each other, the graph as a whole; afterwards the page is as before."""
    browser.open(written)
    box = "return document.querySelector('#canvas svg').getAttribute('viewBox')"
    browser.script("dispatchEvent(new Event('beforeprint'))")
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert all(section.is_displayed() for section in browser.all("main > section"))
        assert not browser.find("nav").is_displayed() and browser.script(box)
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    browser.script("dispatchEvent(new Event('afterprint'))")
    assert [s.get_attribute("id") for s in browser.all("main > section") if s.is_displayed()] == ["overview"]
    assert not browser.script(box)
    assert browser.problems() == []
