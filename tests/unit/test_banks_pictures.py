"""``featpipe banks show NAME --png FILE``: every bank can be drawn, and no label lies on another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from featpipe.cli.banking import draw_example
from featpipe.cli.commands import app
from featpipe.errors import SpecError
from featpipe.kernels.bank import Bank, Kernel
from featpipe.kernels.catalog import build_bank, list_banks
from featpipe.spec.fits import FITS

pytest.importorskip("matplotlib")
PICTURED = [entry.name for entry in list_banks() if entry.name not in ("file", "learned", *FITS)]


def bank_named(name: str) -> Bank:
    entry = next(entry for entry in list_banks() if entry.name == name)
    return build_bank(entry.spec, 1, entry.layer.get("names"))


@pytest.mark.parametrize("name", PICTURED)
def test_labels_of_a_drawn_bank_lie_inside_and_apart(name: str) -> None:
    from featpipe.report.picture import bank_figure

    bank = bank_named(name)
    figure = bank_figure(bank)
    figure.canvas.draw()
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == len(bank.kernels)
    edges = figure.bbox
    texts = [text for axes in figure.axes for text in axes.texts] + figure.texts
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    boxes += [axes.get_window_extent() for axes in panels]
    for i, box in enumerate(boxes):
        assert box.x0 >= edges.x0, texts
        assert box.x1 <= edges.x1
        assert box.y0 >= edges.y0
        assert box.y1 <= edges.y1
        assert not any(box.overlaps(other) for other in boxes[:i]), f"{name}: {i}"


@pytest.mark.parametrize("channels", [None, 2, 3])
def test_kernels_are_drawn_as_shares_of_their_largest_weight(channels: int | None) -> None:
    from featpipe.report.picture import bank_figure

    shape = (3, 5) if channels is None else (3, 5, channels)
    weights = np.random.default_rng(0).normal(size=shape) * 7
    figure = bank_figure(Bank((Kernel(weights, {"bank": "kernels", "kernel": "a"}),)))
    (image,) = figure.axes[0].images
    if channels == 3:  # as colours around gray
        np.testing.assert_allclose(np.asarray(image.get_array()), 0.5 + weights / np.abs(weights).max() / 2)
        return
    shown = weights if channels is None else np.concatenate([weights[..., c] for c in range(channels)], axis=1)
    np.testing.assert_allclose(np.asarray(image.get_array()), shown / np.abs(weights).max())
    assert image.get_clim() == (-1, 1)


def test_the_cosines_are_laid_out_as_a_block_without_its_first_corner() -> None:
    from featpipe.report.picture import bank_figure

    corners = [axes.get_position().p0 for axes in bank_figure(bank_named("dct")).axes if axes.images]
    columns, rows = ({round(float(corner[axis]), 4) for corner in corners} for axis in (0, 1))
    assert (len(columns), len(rows)) == (8, 8)
    assert (min(columns), max(rows)) not in {(round(float(x), 4), round(float(y), 4)) for x, y in corners}


def test_the_command_draws_with_parameters_of_the_users_own(tmp_path: Path) -> None:
    from PIL import Image

    file = tmp_path / "bank.png"
    done = CliRunner().invoke(app, ["banks", "show", "rfs", "--png", str(file), "--set", "sigmas=[1,3]"])
    assert done.output == f"wrote {file} (26 kernels)\n"
    with Image.open(file) as picture:
        assert picture.format == "PNG"
    assert len(draw_example("log", ["sigmas=[1, 2, 3, 5]"], file).kernels) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rfs", "--png", "x.png", "--set", "sigmas=[99]"], "bank rfs.sigmas: must be from 0.3 to size (49) samples"),
        (["rfs", "--png", "x.png", "--set", "sigma=1"], "bank rfs.sigma: unknown key. Did you mean sigmas?"),
        (["rfs", "--set", "sigmas=[1]"], "--set: says how to draw. Add --png FILE."),
        (["rsf", "--png", "x.png"], "there is no bank 'rsf'. Did you mean rfs?"),
        (["rfs", "--png", "x.exe"], "x.exe: is not the name of a picture."),
        (["file", "--png", "x.png"], "bank file.kernels: there is no file"),
    ],
)
def test_a_mistake_is_told_in_a_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["banks", "show", *arguments])
    assert done.exit_code in (1, 2)
    assert message in " ".join(done.output.split())
    assert not (tmp_path / "x.png").exists()


def test_without_matplotlib_the_command_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from featpipe.cli import main\n"
        f"sys.argv = ['featpipe', 'banks', 'show', 'lm', '--png', {str(tmp_path / 'x.png')!r}]\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    message = "--png: drawing needs the package matplotlib, which is not installed. pip install 'featpipe[pictures]'"
    assert done.stderr == f"{message}\n"


def test_a_bank_that_is_not_there_is_refused_before_drawing(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="there is no bank"):
        draw_example("nope", (), tmp_path / "x.png")
