"""Draw docs/images/explore-light.png and explore-dark.png: the page of ``featpipe explore``, as a browser shows it.

python docs/make_screenshots.py          needs chromium and playwright
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).resolve().parent / "images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
PICTURES: dict[str, tuple[str, tuple[int, int]]] = {
    "light": ("{bank: gabor, frequencies: [0.1, 0.2], orientations: 8, padding: reflect}", (310, 193)),
    "dark": ("{bank: sobel, padding: reflect}", (285, 193)),
}
"""Of each theme, the first layer, and the row and column that are pointed at."""
PIPELINE = """\
images:
  path: scene.png
  color: gray
features:
  edges:
    layers:
      - convolve: {convolve}
      - modulus
      - pool: {{max: 2}}
"""


def draw(page: Any, theme: str) -> Image.Image:
    """Show a chain, point at one of its values, and return what is seen."""
    convolve, (y, x) = PICTURES[theme]
    page.locator("body[data-shown]").wait_for()
    page.fill("#yaml", PIPELINE.format(convolve=convolve))
    page.locator(".map-title", has_text="modulus").wait_for()
    page.wait_for_timeout(1500)
    page.evaluate("scrollTo(0, 0)")
    canvas = page.locator(".panel canvas").first
    box = canvas.bounding_box()
    canvas.click(position={"x": (x + 0.5) / 512 * box["width"], "y": (y + 0.5) / 512 * box["height"]})
    page.locator("#value-line strong").wait_for()
    page.wait_for_timeout(300)
    page.locator("#timing").evaluate("(element) => { element.hidden = true; }")  # it tells of this machine's load
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def main() -> None:
    """Serve the page, and draw it in both themes."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    command = [sys.executable, "-m", "featpipe", "explore", "--no-browser"]
    with (
        tempfile.TemporaryDirectory() as folder,
        sync_playwright() as playwright,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=folder) as server,
    ):
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for theme in PICTURES:
            page = browser.new_page(viewport={"width": 1440, "height": 960}, color_scheme=theme)
            page.goto(address)
            picture = draw(page, theme).quantize(255, kmeans=3, dither=Image.Dither.NONE)
            picture.save(IMAGES / f"explore-{theme}.png", optimize=True)
        browser.close()
        server.terminate()


if __name__ == "__main__":
    main()
