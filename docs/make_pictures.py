"""Draw docs/images/responses.png and preview.png: real responses to real photographs, computed by featpipe.

pip install -e ".[docs]" && python docs/make_pictures.py
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import imageio.v3 as iio
import matplotlib as mpl
import matplotlib.colors
import matplotlib.ticker
import numpy as np
import numpy.typing as npt
from matplotlib import pyplot as plt
from PIL import Image
from skimage import data

import featpipe

Float32 = npt.NDArray[np.float32]
HERE = Path(__file__).resolve().parent
INK = "#22272e"
PREVIEWED = """\
images: {path: photos/, color: gray}
features:
  texture:
    layers:
      - convolve: {bank: gabor, frequencies: [0.1, 0.2, 0.4], orientations: 4, padding: reflect}
      - modulus
      - pool: {mean: 8}
"""


def responses(photo: npt.NDArray[np.uint8], *layers: Any) -> Float32:
    """Return the (y, x, k) responses of one chain to the gray version of a photograph."""
    pipeline = {"images": {"color": "gray"}, "features": {"branch": {"layers": list(layers)}}}
    maps: Float32 = featpipe.extract(photo[None], pipeline)["branch/scale1"][0]
    return maps


def gabor_row() -> tuple[str, npt.NDArray[np.uint8], list[str], Float32, dict[str, Any]]:
    """Amplitudes of four orientations."""
    photo = data.cat()
    bank = {"bank": "gabor", "frequencies": 0.18, "orientations": 4, "padding": "reflect"}
    maps = responses(photo, {"convolve": bank}, "modulus")
    top = float(np.percentile(maps, 99.7))
    names = [f"{angle}°" for angle in (0, 45, 90, 135)]
    return (
        "gabor, 0.18 cycles/px\nmodulus",
        photo,
        names,
        maps,
        {"cmap": "magma", "norm": mpl.colors.PowerNorm(0.6, 0, top)},
    )


def log_row() -> tuple[str, npt.NDArray[np.uint8], list[str], Float32, dict[str, Any]]:
    """Laplacians of Gaussians, times σ² so that their sizes compare."""
    photo, sigmas = data.astronaut()[:340, 30:481], (1, 2, 4, 8)
    maps = responses(photo, {"convolve": {"bank": "log", "sigmas": list(sigmas), "padding": "reflect"}})
    maps = maps * np.square(sigmas)
    top = float(np.percentile(np.abs(maps), 99.5))
    names = [f"σ = {sigma} px" for sigma in sigmas]
    return "log × σ²", photo, names, maps, {"cmap": "RdBu_r", "vmin": -top, "vmax": top}


def split_row() -> tuple[str, npt.NDArray[np.uint8], list[str], Float32, dict[str, Any]]:
    """Directed edges, dark to bright apart from bright to dark."""
    photo = data.coffee()[40:380, 90:541]
    bank = {"bank": "gaussian-gradient", "sigmas": 1.5, "padding": "reflect"}
    maps = responses(photo, {"convolve": bank}, {"activate": {"split": {"threshold": 0.005}}})
    top = float(np.percentile(maps, 99.5))
    names = ["brighter downwards", "brighter rightwards", "darker downwards", "darker rightwards"]
    return (
        "gaussian-gradient, σ = 1.5 px\nactivate: split",
        photo,
        names,
        maps,
        {"cmap": "cividis", "vmin": 0, "vmax": top},
    )


def draw_preview() -> None:
    """Draw what ``featpipe preview`` makes of a photograph, to docs/images/preview.png."""
    with TemporaryDirectory() as folder:
        photo, pipeline = Path(folder) / "cat.png", Path(folder) / "texture.yaml"
        iio.imwrite(photo, data.cat())
        pipeline.write_text(PREVIEWED, encoding="utf-8")
        output = HERE / "images" / "preview.png"
        command = [sys.executable, "-m", "featpipe", "preview", str(pipeline), "--image", str(photo), "-o", str(output)]
        subprocess.run(command, check=True)
    shrink(output)


def shrink(file: Path) -> None:
    """Write a picture again in the colours of its scales alone, as a file of less than half the size."""
    colours = [mpl.colormaps[name](np.linspace(0, 1, 85))[:, :3] for name in ("gray", "magma", "RdBu_r")]
    with Image.open(file) as opened:
        picture = opened.convert("RGB")
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.rint(255 * np.vstack(colours)).astype(np.uint8).tobytes())
    quantised = picture.quantize(palette=palette, dither=Image.Dither.NONE)
    indices = np.array(quantised)
    indices[(np.asarray(picture) == 255).all(axis=2)] = 84  # paper stays white
    small = Image.fromarray(indices)
    small.putpalette(quantised.getpalette() or [])
    small.save(file, optimize=True)


def draw_responses() -> None:
    """Draw a row for each bank: the photograph, then four features on one colour scale."""
    mpl.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9, "text.color": INK})
    rows = [gabor_row(), log_row(), split_row()]
    figure = plt.figure(figsize=(13, 6.35), facecolor="white")
    grid = figure.add_gridspec(
        3,
        6,
        width_ratios=[1, 1, 1, 1, 1, 0.028],
        hspace=0.2,
        wspace=0.035,
        left=0.006,
        right=0.965,
        top=0.962,
        bottom=0.01,
    )
    for i, (title, photo, names, maps, colours) in enumerate(rows):
        panels = [figure.add_subplot(grid[i, j]) for j in range(5)]
        panels[0].imshow(photo, aspect="auto")
        panels[0].set_title(title.replace("\n", "  ▸  "), fontsize=9, loc="left", fontweight="bold", pad=4)
        for j, name in enumerate(names):
            drawn = panels[j + 1].imshow(maps[..., j], aspect="auto", interpolation="antialiased", **colours)
            panels[j + 1].set_title(name, fontsize=9, loc="right", pad=4)
        for panel in panels:
            panel.set_axis_off()
        bar = figure.colorbar(drawn, cax=figure.add_subplot(grid[i, 5]))
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=2, labelsize=8, color=INK, labelcolor=INK)
        bar.locator = mpl.ticker.MaxNLocator(4)
        bar.update_ticks()
    figure.savefig(HERE / "images" / "responses.png", dpi=100)


def main() -> None:
    """Draw everything."""
    draw_responses()
    draw_preview()


if __name__ == "__main__":
    main()
