"""The local page itself, in a real browser: dropped on, clicked, typed into, walked over with the keyboard."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import featpipe
from featpipe.explore.beginning import STARTER
from featpipe.explore.examples import draw

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("uvicorn", reason="the extra explore is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

SCRIPT = (Path(__file__).parent / "explore_page.js").read_text(encoding="utf-8")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--disable-component-update",
    "--no-first-run",
]  # fmt: skip


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    command = [sys.executable, "-m", "featpipe", "explore", "--no-browser"]
    here = tmp_path_factory.mktemp("page")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=here) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)


class Tab:
    """The page in a tab, and all that it complained of or asked of others."""

    def __init__(self, browser: Any, address: str, **context: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1440, "height": 1000}, **context})
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)
        self.page.locator("body[data-shown]").wait_for(timeout=20_000)
        self.settle()
        if self.page.input_value("#example") != "scene":
            self.after(lambda: self.page.select_option("#example", "scene"))
        self.text(STARTER.format(path="scene.png"))

    def settle(self) -> None:
        """Wait until nothing is under way."""
        quiet = 0
        for _ in range(1000):
            busy = self.page.evaluate("document.body.classList.contains('busy')")
            quiet = 0 if busy else quiet + 1
            if quiet == 4:
                return
            time.sleep(0.03)
        raise AssertionError("the page does not come to rest")

    def after(self, act: Callable[[], Any]) -> None:
        """Do something, and wait for the pictures of it."""
        before = int(self.page.get_attribute("body", "data-shown"))
        act()
        for _ in range(1000):
            if int(self.page.locator("body").get_attribute("data-shown")) > before:
                break
            time.sleep(0.01)
        self.settle()

    def call(self, name: str, argument: Any = None) -> Any:
        """Call a function of the tests' script in the page."""
        return self.page.evaluate(f"(argument) => {SCRIPT.strip()}.{name}(argument)", argument)

    def text(self, pipeline: str) -> None:
        self.after(lambda: self.page.fill("#yaml", pipeline))

    def map(self, layer: int) -> np.ndarray[Any, Any]:
        """Return the numbers that the page holds of the feature it shows after a layer."""
        content, shape = self.call("held", layer)
        return np.frombuffer(base64.b64decode(content), np.float32).reshape(shape)


@pytest.fixture
def tab(browser: Any, address: str) -> Iterator[Tab]:
    tab = Tab(browser, address)
    yield tab
    assert tab.said == []
    assert all(url.startswith((address, "blob:")) for url in tab.asked)
    tab.context.close()


def png(pixels: np.ndarray[Any, Any]) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_an_image_is_dropped_and_its_vertical_edges_are_seen_halved(tab: Tab) -> None:
    page, pixels = tab.page, draw("shapes")
    tab.after(lambda: tab.call("drop", png(pixels)))
    assert "dropped.png" in page.inner_text("#subject-name")
    while page.locator(".layer").count():
        tab.after(page.locator('[data-action="remove"]').first.click)
    page.select_option("#new-layer", "convolve")
    tab.after(lambda: page.click("#add"))
    tab.after(lambda: page.select_option('[data-path="bank"]', label="prewitt"))
    tab.after(page.get_by_role("radio", name="component=x").first.click)
    page.select_option("#new-layer", "pool")
    tab.after(lambda: page.click("#add"))
    tab.after(page.locator('.layer:nth-child(2) [role="radio"]').nth(1).click)
    assert page.inner_text(".layer:nth-child(2) .map-title").endswith("255×255×2")
    maps = featpipe.extract(
        pixels[None], {"features": {"b": {"layers": [{"convolve": {"bank": "prewitt"}}, {"pool": {"max": 2}}]}}}
    )
    np.testing.assert_array_equal(tab.map(1), maps["b/scale1"][0, ..., 1])
    edges = featpipe.extract(pixels[None], {"features": {"b": {"layers": [{"convolve": {"bank": "prewitt"}}]}}})
    np.testing.assert_array_equal(tab.map(0), edges["b/scale1"][0, ..., 1])
    # the square's left edge is bright, its upper edge is not there, and half the samples keep its height
    pooled = tab.map(1)
    assert pooled[60, 28:31].max() > 0.5 > 0.01 > abs(pooled[28:31, 60]).max()
    assert pooled[60, 28:31].max() == tab.map(0)[120:122, 56:62].max()
    drawn = page.locator(".layer:nth-child(2) .holder canvas")
    assert drawn.evaluate("(canvas) => [canvas.width, canvas.height, getComputedStyle(canvas).imageRendering]") == [
        255,
        255,
        "pixelated",
    ]
    page.select_option("#sizes", "true")
    wide = [page.locator(f".layer:nth-child({i}) .holder").bounding_box()["width"] for i in (1, 2)]
    assert wide[1] / wide[0] == pytest.approx(0.5, abs=0.01)


def test_the_copied_yaml_runs_to_the_same_values(tab: Tab) -> None:
    page = tab.page
    tab.after(lambda: page.select_option('[data-path="bank"]', label="gabor"))
    tab.after(lambda: page.fill('[data-path="frequencies"]', "0.15, 0.3"))
    tab.after(lambda: page.fill('[data-path="orientations"]', "4"))
    tab.after(lambda: page.select_option('.layer:nth-child(1) [data-path="padding"]', "symmetric"))
    tab.after(lambda: page.fill('.layer:nth-child(1) [data-path="stride"]', "1, 2"))
    page.click("#copy")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.input_value("#yaml")
    pipeline = yaml.safe_load(copied)
    assert pipeline["images"] == {"path": "scene.png", "color": "gray"}
    wanted = featpipe.extract(draw("scene")[None], pipeline)["edges/scale1"]
    assert wanted.shape[1:] == (256, 128, 8)
    for feature in (0, 5):
        tab.after(page.locator('.layer:nth-child(3) [role="radio"]').nth(feature).click)
        np.testing.assert_array_equal(tab.map(2), wanted[0, ..., feature])


def test_text_and_forms_follow_each_other(tab: Tab) -> None:
    page = tab.page
    tab.text("""images: {path: mine/, color: gray}
features:
  first: {layers: [{convolve: {kernels: [[[0, 1], [2, 3]]]}}, {import: {file: no.safetensors}}]}
  other: {scales: [1, 2], layers: [{convolve: {bank: log, sigmas: [1, 2]}}, {pool: {mean: {grid: [2, 3]}}}]}
""")
    assert page.locator(".layer").count() == 2
    assert page.locator(".layer:nth-child(1) .kernel input").count() == 4
    assert "there is no file" in page.inner_text(".layer:nth-child(2) .problems")
    tab.after(lambda: page.locator(".kernel input").first.fill("-5"))
    assert "kernels: [[[-5, 1], [2, 3]]]" in page.input_value("#yaml")
    assert "file: no.safetensors" in page.input_value("#yaml")
    tab.after(lambda: page.select_option("#branch", "other"))
    tab.after(lambda: page.select_option("#scale", "2"))
    assert page.inner_text(".layer:nth-child(2) .map-title").endswith("2×3×2")
    tab.after(lambda: page.fill('[data-path="sigmas"]', "0"))
    assert "must be more than 0" in page.inner_text(".layer:nth-child(1) .problems")
    assert page.get_attribute('[data-path="sigmas"]', "aria-invalid") == "true"
    tab.after(lambda: page.fill('[data-path="sigmas"]', "1, 2"))
    assert page.locator(".problems li:visible").count() == 1  # what is wrong in the other branch is still told
    assert "sigmas: [1, 2]" in page.input_value("#yaml")
    tab.text("features: [")
    assert "not valid YAML" in page.inner_text("#other-problems")


def test_pointing_at_a_value_shows_what_it_is_made_of(tab: Tab) -> None:
    page = tab.page
    canvas = page.locator(".layer:nth-child(1) .holder canvas")
    box = canvas.bounding_box()
    canvas.hover(position={"x": (100 + 0.5) / 512 * box["width"], "y": (140 + 0.5) / 512 * box["height"]})
    page.get_by_text("row 140, column 100").wait_for()
    numbers = [
        [float(cell.replace("−", "-")) for cell in table.locator("tbody td").all_inner_texts()]
        for table in page.locator("table.numbers").all()
    ]
    samples, weights, products = map(np.array, numbers)
    np.testing.assert_allclose(samples * weights, products, atol=1e-3)
    value = float(page.inner_text("#value-line strong").replace("−", "-"))
    assert value == pytest.approx(products.sum(), abs=1e-3)
    assert value == pytest.approx(float(tab.map(0)[140, 100]), abs=1e-3)
    mark, image = page.locator("#input-mark").bounding_box(), page.locator("#input").bounding_box()
    assert mark["x"] - image["x"] == pytest.approx(99 / 512 * image["width"], abs=1.6)
    assert mark["y"] - image["y"] == pytest.approx(139 / 512 * image["height"], abs=1.6)


def test_all_can_be_done_with_the_keyboard(tab: Tab) -> None:
    page, keys = tab.page, tab.page.keyboard

    def reach(what: str) -> None:
        for _ in range(80):
            if page.evaluate(f"document.activeElement.matches({what!r})"):
                ring = page.evaluate(
                    "(() => { const s = getComputedStyle(document.activeElement); return s.outlineStyle; })()"
                )
                assert ring != "none" or page.evaluate("document.activeElement.matches('.hidden-file')")
                return
            keys.press("Tab")
        raise AssertionError(f"no way to {what}")

    page.reload()
    page.locator("body[data-shown]").wait_for(timeout=20_000)
    tab.settle()
    keys.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the layers"
    keys.press("Enter")
    reach('[data-path="bank"]')
    tab.after(lambda: keys.type("scharr", delay=60))  # slowly: a picture comes after every letter
    assert "bank: scharr" in page.input_value("#yaml")
    assert page.evaluate("document.activeElement.dataset.path") == "bank"
    reach("canvas")
    page.locator("#value-line", has_text="row 256, column 256").wait_for()
    keys.press("ArrowDown")
    keys.press("Shift+ArrowLeft")
    page.locator("#value-line", has_text="row 257, column 246").wait_for()
    keys.press("Escape")
    reach('[role="radio"]')
    tab.after(lambda: keys.press("ArrowRight"))
    assert "component=x" in page.inner_text(".layer:nth-child(1) .feature-name")
    reach('.layer:nth-child(2) [data-action="up"]')
    tab.after(lambda: keys.press("Enter"))
    assert page.input_value("#yaml").index("modulus") < page.input_value("#yaml").index("convolve")
    assert "there are no pairs to fold" in page.inner_text(".layer:nth-child(1) .problems")
    reach('.layer:nth-child(1) [data-action="remove"]')
    tab.after(lambda: keys.press("Space"))
    reach("#add")
    tab.after(lambda: keys.press("Enter"))
    assert page.locator(".layer").count() == 3


@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("light", 1000), ("dark", 390)])
def test_all_is_named_can_be_read_and_fits(browser: Any, address: str, theme: str, width: int) -> None:
    tab = Tab(browser, address, color_scheme=theme, viewport={"width": width, "height": 900}, reduced_motion="reduce")
    page = tab.page
    tab.after(lambda: page.select_option('[data-path="bank"]', label="kernels written out"))
    page.locator("details").evaluate_all("(all) => all.forEach((one) => { one.open = true; })")
    tab.after(lambda: page.fill(".layer:nth-child(3) [data-size]", "0"))
    page.locator(".layer:nth-child(1) .holder canvas").click()
    page.locator("table.numbers").first.wait_for()
    assert tab.call("contrast") == []
    assert tab.call("unnamed") == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    names = page.locator("[id]").evaluate_all("(all) => all.map((one) => one.id)")
    assert len(set(names)) == len(names)
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") != theme
    assert tab.call("contrast") == []
    assert tab.said == []
    tab.context.close()


def test_a_change_is_seen_soon(tab: Tab) -> None:
    """How long it takes is printed, not asserted."""
    page = tab.page
    times = {}
    for bank, text in (
        ("sobel", "bank: sobel"),
        ("16 gabors", "bank: gabor, frequencies: [0.1, 0.2], orientations: 8"),
    ):
        tab.text(f"""images: {{path: scene.png, color: gray}}
features:
  b:
    layers: [{{convolve: {{{text}, padding: reflect}}}}, modulus, {{pool: {{max: 2}}}}]
""")
        found = []
        for mode in ("symmetric", "edge", "wrap", "zero"):
            page.evaluate("performance.clearMeasures()")
            tab.after(partial(page.select_option, '.layer:nth-child(1) [data-path="padding"]', mode))
            found.append(page.evaluate("performance.getEntriesByType('measure').at(-1).duration"))
        times[bank] = min(found)
    print(
        "\nfrom a change of the first layer to the pictures, 512×512:",
        ", ".join(f"{k} {v:.0f} ms" for k, v in times.items()),
    )
    assert re.search(r"\d ms", page.inner_text("#timing"))
