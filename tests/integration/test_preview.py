"""``featpipe preview``: every pipeline as a picture in which no text lies on another, and whose numbers are a run's."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from typer.testing import CliRunner

import featpipe
from featpipe.cli.commands import app
from featpipe.cli.previewing import Wish, learned, read_wished
from featpipe.plan.program import ROOT
from featpipe.preview.choice import choose
from featpipe.preview.frames import WIDTH
from featpipe.preview.layout import Placed, lay_out
from featpipe.preview.panels import Block, Preview, all_blocks, gather
from featpipe.preview.picture import measure_text
from featpipe.preview.scales import are_even, share_scales
from featpipe.spec.load import load_pipeline, parse_pipeline
from featpipe.trace import Example, read_example, trace

pytest.importorskip("matplotlib")
PIPELINES = Path(__file__).resolve().parents[2] / "pipelines"
LEARNED = "features.patches.layers[0].convolve.bank"
ONE_LAYER = ("coates-ng", "random-patches", "mosaiks")
FEWER: dict[str, list[str]] = {
    **{name: [f"{LEARNED}.{one}" for one in ("kernels=70", "patches=600")] for name in ONE_LAYER},
    "pcanet": [f"features.hashes.layers[{i}].convolve.bank.patches=600" for i in (0, 1)],
}
MOST_BLANK = 0.4
"""Of a picture, margins and room between blocks included."""
NAMES = sorted(file.stem for file in PIPELINES.glob("*.yaml"))


@pytest.fixture(scope="session")
def made(workplace: Path) -> Callable[[str], tuple[Any, Any, Example, Preview]]:
    """Return a function that gathers the preview of a pipeline, once."""
    known: dict[str, tuple[Any, Any, Example, Preview]] = {}

    def make(name: str) -> tuple[Any, Any, Example, Preview]:
        if name not in known:
            pipeline, _ = load_pipeline(workplace / f"{name}.yaml", FEWER.get(name, ()))
            example = read_wished(pipeline, Wish())
            program = learned(pipeline, example, Wish(), quiet=True)
            known[name] = (pipeline, program, example, gather(pipeline, program, example, name))
        return known[name]

    return make


def texts_of(figure: Any) -> list[tuple[str, Any]]:
    renderer = figure.canvas.get_renderer()
    return [(text.get_text(), text.get_window_extent(renderer)) for axes in figure.axes for text in axes.texts]


def check_texts(figure: Any) -> None:
    """Check that every text lies in the figure, and on no other text or picture."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from featpipe.preview.picture import STYLE

    with mpl.rc_context(STYLE):
        FigureCanvasAgg(figure).draw()
        found = texts_of(figure)
    assert found
    for text, box in found:
        assert figure.bbox.x0 <= box.x0, text
        assert box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0, text
        assert box.y1 <= figure.bbox.y1, text
    slack = figure.dpi * 0.012  # a box is taller than its letters
    boxes = np.array([[b.x0 + slack, b.y0 + slack, b.x1 - slack, b.y1 - slack] for _, b in found])
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    both = np.argwhere(np.triu((low < high).all(axis=2), 1))
    assert not [(found[i][0], found[j][0]) for i, j in both]
    extents = [image.get_window_extent() for image in figure.axes[0].images]
    pictures = np.array([[*one.p0, *one.p1] for one in extents])
    low = np.maximum(boxes[:, None, :2], pictures[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], pictures[None, :, 2:])
    inside = (low == boxes[:, None, :2]).all(axis=2) & (high == boxes[:, None, 2:]).all(axis=2)
    crossed = np.argwhere((low < high).all(axis=2) & ~inside)  # numbers of a table lie within their cells
    assert not [found[i][0] for i, _ in crossed]


@pytest.mark.parametrize("name", NAMES)
def test_no_text_of_a_preview_lies_on_another_or_on_a_picture_or_outside(name: str, made: Callable[[str], Any]) -> None:
    from featpipe.preview.picture import preview_figure

    figure = preview_figure(made(name)[3], dpi=100)
    check_texts(figure)
    assert 2 < figure.get_figheight() <= 40


def boxes_of(placed: Placed) -> list[tuple[float, float, float, float]]:
    """Return left, top, right and bottom of a block's header and of its pictures."""
    made = placed.frame
    return [
        (placed.x, placed.y, placed.x + made.header_width, placed.body),
        (placed.x, placed.body, placed.x + made.body, placed.body + made.height),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_little_of_a_preview_stays_blank_and_its_blocks_and_arrows_keep_clear(
    name: str, made: Callable[[str], Any]
) -> None:
    page = lay_out(made(name)[3], measure_text)
    boxes = [(i, np.array(box)) for i, placed in enumerate(page.blocks) for box in boxes_of(placed)]
    covered = sum((right - left) * (bottom - top) for _, (left, top, right, bottom) in boxes)
    assert page.blank == pytest.approx(1 - covered / (WIDTH * page.height))
    assert page.blank < MOST_BLANK
    ways = [(i, pair) for i, placed in enumerate(page.blocks) for pair in itertools.pairwise(placed.arrow)]
    lines = [(i, np.array([*np.min(pair, axis=0), *np.max(pair, axis=0)])) for i, pair in ways]
    for (i, one), (j, other) in itertools.product([*boxes, *lines], boxes):
        apart = (one[:2] >= other[2:] - 1e-6).any() or (other[:2] >= one[2:] - 1e-6).any()
        assert one is other or apart, (page.blocks[i].frame.block.title, page.blocks[j].frame.block.title)
    assert all(right <= WIDTH and bottom <= page.height for _, (_, _, right, bottom) in boxes)
    assert [len(placed.arrow) > 1 for placed in page.blocks] == [False] + [True] * (len(page.blocks) - 1)


def test_rows_have_scales_of_their_own_where_the_first_label_decides_how_strong_they_are(
    made: Callable[[str], Any],
) -> None:
    def of(name: str, title: str) -> Block:
        blocks = itertools.chain.from_iterable(all_blocks(made(name)[3]).values())
        return next(block for block in blocks if block.title.startswith(title))

    convolved = of("gabor-texture", "convolve")
    assert (convolved.mode, convolved.arrangement.rows) == ("rows", ("frequency",))
    assert len(set(convolved.scales)) == 4
    assert of("pixel-features", "modulus").mode == "all"  # sigmas in one line compare
    assert of("laws", "convolve").mode == "own"


@pytest.mark.parametrize(
    ("strengths", "even", "mode", "hard"),
    [
        ([[1.0, 0.8], [0.9, 0.7]], True, "all", 0),
        ([[1.0, 0.8], [0.4, 0.35]], False, "rows", 1),
        ([[1.0, 0.28], [1.0, 0.28]], True, "all", 2),
        ([[1.0, 0.9], [0.01, 0.009]], False, "rows", 1),
        ([[1.0, 0.01], [0.01, 1.0]], True, "own", 4),
    ],
)
def test_one_scale_is_for_all_then_for_rows_then_for_each(
    strengths: list[list[float]], even: bool, mode: str, hard: int
) -> None:
    values = [np.full((4, 4), one, np.float32) for row in strengths for one in row]
    rows = [i for i, row in enumerate(strengths) for _ in row]
    assert are_even(values, rows) == even
    found, scales, told = share_scales(values, rows, even=even)
    assert (found, told) == (mode, hard)
    assert len(set(scales)) == {"all": 1, "rows": 2, "own": len({*np.ravel(strengths)})}[mode]


@pytest.mark.parametrize("name", NAMES)
def test_what_a_preview_shows_are_the_numbers_of_a_run(name: str, made: Callable[[str], Any]) -> None:
    pipeline, program, example, preview = made(name)
    maps = dict(trace(program, example.pixels))
    blocks = all_blocks(preview)
    seen = 0
    for node, some in blocks.items():
        for block in some:
            if node == ROOT or block.kind == "kernels":
                continue
            for panel in block.panels:
                values = maps[node][0] if panel.feature < 0 else maps[node][..., panel.feature]
                if panel.values.shape != values.shape:  # too large to be drawn sample by sample
                    assert values.shape[0] > 256
                    y, x = panel.values.shape
                    step = values.shape[0] // y
                    values = values[: y * step, : x * step].reshape(y, step, x, step).mean(axis=(1, 3))
                    np.testing.assert_allclose(panel.values, values, rtol=1e-4, atol=1e-6)
                else:
                    np.testing.assert_array_equal(panel.values, values)
                assert panel.feature < 0 or panel.labels == program.features(node)[panel.feature]
                seen += 1
    assert seen >= len(blocks) - 1
    if not program.fits and name not in FEWER:
        ours = featpipe.extract(example.pixels[None], pipeline.model_copy(update={"images": parse_pipeline(
            {"features": {"b": {"layers": [{"convolve": {"bank": "sobel"}}]}}}).images}))  # fmt: skip
        for output in program.outputs:
            np.testing.assert_array_equal(ours[output.name][0], maps[output.node])


def test_shared_beginnings_are_shown_once(made: Callable[[str], Any]) -> None:
    titles = [[block.title for block in row.blocks] for row in made("gabor-texture")[3].rows]
    assert titles == [
        ["gabor kernels", "convolve gabor 69×69 separable", "modulus"],
        ["pool mean global"],
        ["pool std global"],
        ["reduce orientation by max", "pool mean global"],
    ]
    assert [row.name for row in made("gabor-texture")[3].rows] == ["mean, std, best", "mean", "std", "best"]


def labelled(**values: list[Any]) -> list[dict[str, Any]]:
    return [dict(zip(values, some, strict=True)) for some in itertools.product(*values.values())]


def test_the_choice_among_many_features_keeps_the_table_of_their_labels() -> None:
    labels = labelled(frequency=[i / 40 for i in range(1, 21)], orientation=[9.0 * i for i in range(20)])
    variance = np.random.default_rng(0).random(400)
    choice = choose(labels, variance, {})
    chosen = [labels[i] for i in choice.features]
    kept = {key: sorted({one[key] for one in chosen}) for key in ("frequency", "orientation")}
    assert len(chosen) == len(kept["frequency"]) * len(kept["orientation"]) == 49
    assert np.ptp(np.diff(kept["orientation"])) == 0
    assert choice.words == "49 of 400 shown: every third frequency, every third orientation"
    assert choose(labels, variance[::-1], {}).features == choice.features


def test_of_kernels_that_a_number_tells_apart_those_that_vary_most_are_chosen_and_stay_so() -> None:
    labels = labelled(kernel=list(range(400)))
    variance = np.random.default_rng(1).random(400)
    choice = choose(labels, variance, {})
    assert set(choice.features) == set(np.argsort(-variance)[:32].tolist())
    assert list(choice.features) == sorted(choice.features)
    assert choice.words == "32 of 400 shown: the 32 kernels of largest variance"
    assert choose(labels, variance[::-1], choice.kept).features == choice.features
    assert choose(labels, variance[::-1], choice.kept).words == "32 of 400 shown: those chosen before"
    both = choose(labelled(polarity=[1, -1], kernel=list(range(400))), np.tile(variance, 2), choice.kept)
    assert len(both.features) == 32
    assert {i % 400 for i in both.features} == set(np.argsort(-variance)[:16].tolist())


def test_four_features_are_all_shown() -> None:
    assert choose(labelled(sigma=[1.0, 2.0, 4.0, 8.0]), np.ones(4), {}).features == (0, 1, 2, 3)


@pytest.mark.parametrize(
    "layers",
    [
        [{"convolve": {"kernels": [[[1, -1]], [[2, 0]]], "names": ["a name as long as it may be, and longer", "b"]}}],
        [{"local": {"kernels": {"fit": "random", "kernels": 3, "size": 3, "seed": 0}}}, {"pool": {"mean": "global"}}],
        [
            {"convolve": {"bank": {"fit": "random", "kernels": 5, "size": 3, "seed": i}, "channels": "sum"}}
            for i in range(9)
        ],
    ],
)
def test_odd_pipelines_are_laid_out_too(layers: list[Any]) -> None:
    from featpipe.plan.resolve import make_program
    from featpipe.preview.picture import preview_figure

    pipeline = parse_pipeline({"features": {"b": {"layers": layers}}})
    program = make_program(pipeline.features, ("0", "1"))
    pixels = np.random.default_rng(3).random((40, 90, 2)).astype(np.float32)
    example = Example("a folder/" + "x" * 90 + ".tif", pixels, ("0", "1"))
    check_texts(preview_figure(gather(pipeline, program, example, "odd"), dpi=80))


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["preview", *map(str, arguments)])


def photo(folder: Path, edge: int = 48) -> Path:
    pixels = np.random.default_rng(4).integers(0, 256, (edge, edge + 4), np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    return folder / "photo.png"


@pytest.mark.parametrize(("ending", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_picture_of_an_image_outside_the_collection(ending: str, begins: bytes, tmp_path: Path) -> None:
    text = "images: {path: nowhere}\nfeatures:\n  a: {layers: [convolve: {bank: sobel}, modulus]}\n"
    text += "  b: {layers: [convolve: {bank: log, sigmas: [1, 2]}]}\n"
    (tmp_path / "p.yaml").write_text(text)
    done = run(tmp_path / "p.yaml", "--image", photo(tmp_path), "-o", tmp_path / f"x.{ending}")
    assert done.exit_code == 0, done.output
    content = (tmp_path / f"x.{ending}").read_bytes()
    assert content.startswith(begins)
    pages = " (2 pages)" if ending == "pdf" else ""
    assert done.stdout == f"wrote {tmp_path / f'x.{ending}'}{pages}: photo.png\n"
    if ending == "pdf":
        assert len(re.findall(rb"/Type /Page\b", content)) == 2
    if ending == "svg":
        assert "convolve sobel 3×3" in content.decode()
        assert done.exit_code == run(tmp_path / "p.yaml", "--image", photo(tmp_path), "-o", tmp_path / "y.svg",
                                     "--branch", "b").exit_code  # fmt: skip
        assert "convolve sobel 3×3" not in (tmp_path / "y.svg").read_text()


def test_banks_come_from_the_store_without_the_collection(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    photo(tmp_path / "images")
    text = "images: {path: images, size: 24}\nfeatures:\n  p:\n    layers:\n      - convolve: "
    text += "{bank: {fit: pca, kernels: 4, size: 5, patches: 300, seed: 0}}\nstore: {path: s.zarr}\n"
    (tmp_path / "p.yaml").write_text(text)
    arguments = (tmp_path / "p.yaml", "-o", tmp_path / "x.png")
    anew = run(*arguments)
    assert anew.exit_code == 0, anew.output
    assert "learning pca" in anew.stderr
    assert not (tmp_path / "s.zarr").exists()
    assert CliRunner().invoke(app, ["run", str(tmp_path / "p.yaml"), "-q"]).exit_code == 0
    assert "learning" not in run(*arguments).stderr
    shutil.move(tmp_path / "images" / "photo.png", tmp_path / "photo.png")
    again = run(*arguments, "--image", tmp_path / "photo.png")
    assert again.exit_code == 0, again.output
    shutil.rmtree(tmp_path / "s.zarr")
    assert "images" in run(*arguments, "--image", tmp_path / "photo.png").stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--branch", "c"], "--branch: there is no branch 'c'. Use one of a."),
        (["--row", "7"], "p.yaml:1:16 images: there is no image 7. Use 0 to 0."),
        (["--row", "0", "--image", "photo.png"], "--row: is a row of the collection, and --image names a file."),
        (["--image", "none.png"], "--image: "),
        (["-o", "x.gif"], "x.gif: is not the name of a picture."),
        (["--set", "features.a.layers[0].convolve.sigmas=[9]"], "p.yaml:2:"),
    ],
)
def test_a_mistake_is_told_in_a_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photo(tmp_path)
    layers = "[convolve: {bank: gaussian, sigmas: [1]}]"
    Path("p.yaml").write_text(f"images: {{path: photo.png}}\nfeatures: {{a: {{layers: {layers}}}}}\n")
    done = run("p.yaml", "-o", "x.png", *arguments)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
    assert not Path("x.png").exists()


def test_without_matplotlib_the_command_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from featpipe.cli import main\n"
        "sys.argv = ['featpipe', 'preview', 'p.yaml', '-o', 'x.png']\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    message = "--output: drawing needs the package matplotlib, which is not installed. pip install 'featpipe[pictures]'"
    assert (done.returncode, done.stderr) == (1, f"{message}\n")


def test_of_a_large_image_the_middle_is_shown(tmp_path: Path) -> None:
    images = parse_pipeline({"images": {"path": str(photo(tmp_path, 90))}, "features": {"b": {"layers": [
        {"convolve": {"bank": "sobel"}}]}}}).images  # fmt: skip
    from featpipe.preview.panels import image_block

    facts = image_block(read_example(images, most=32)).facts
    assert facts[1:] == ("32×32×1 (gray)", "the middle of 90×94 px")
    values: npt.NDArray[np.float32] = image_block(read_example(images, most=32)).panels[0].values
    assert values.shape == (32, 32)
