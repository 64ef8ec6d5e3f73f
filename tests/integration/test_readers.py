"""The readers of docs/howto/read-elsewhere.md, the real ones, on the snippets that stand there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import featpipe
from featpipe.cli import app
from featpipe.run import default_resources, plan_run, run_plan
from featpipe.spec.load import parse_pipeline
from featpipe.stack import Stack

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "howto" / "read-elsewhere.md").read_text(encoding="utf-8")
GABOR = {"convolve": {"bank": "gabor", "frequencies": [0.1, 0.3], "orientations": 2, "padding": "reflect"}}
SMALL: dict[str, Any] = {
    "texture": {"scales": [1, 2], "layers": [GABOR, "modulus", {"pool": {"mean": {"grid": [2, 2]}}}]},
    "edges": {"layers": [{"convolve": {"bank": "sobel"}}, "modulus", {"pool": {"max": 5}}]},
}
LARGE: dict[str, Any] = {"texture": {"scales": [1, 2, 4], "layers": [GABOR, "modulus"]}}
CLASSES = ("Ähre", "猫 tabby", "wave")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the stores that the page reads: 13 small images with classes, and one image in blocks."""
    import imageio.v3 as iio

    folder = tmp_path_factory.mktemp("readers")
    random = np.random.default_rng(0)
    for i in range(14):
        place = folder / "images" / ("train" if i < 9 else "test") / CLASSES[i % 3]
        place.mkdir(parents=True, exist_ok=True)
        iio.imwrite(place / f"{i} é.png", random.integers(0, 256, (24, 30), np.uint8))
    (folder / "images" / "train" / CLASSES[0] / "0 é.png").write_bytes(b"no picture")
    np.save(folder / "large.npy", random.integers(0, 256, (1, 90, 130), np.uint8))
    for store, images, branches, block in (
        ("features.zarr", "images", SMALL, {}),
        ("large.zarr", "large.npy", LARGE, {"block": [64, 64]}),
    ):
        data = {
            "images": {"path": str(folder / images)},
            "features": branches,
            "store": {"path": str(folder / store), **block},
        }
        run_plan(plan_run(parse_pipeline(data), default_resources(1 << 30, 1)))
    return folder


@pytest.fixture
def stack(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.chdir(folder)
    return featpipe.open("features.zarr")


@pytest.fixture
def large(stack: Stack) -> Stack:
    return featpipe.open("large.zarr")


def snippets(title: str, language: str) -> list[str]:
    """Return the code of a section."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


def follow(title: str, number: int = 0) -> dict[str, Any]:
    """Run a section's Python and return its variables."""
    code = snippets(title, "python")[number]
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(code, f"{title} {number}", "exec"), names)
    return names


def export(title: str) -> None:
    """Carry out a section's commands."""
    for line in snippets(title, "sh")[0].splitlines():
        command, *words = line.split()
        assert command == "featpipe"
        with pytest.raises(SystemExit) as stop:
            app([*words, "--overwrite", "--quiet"], prog_name="featpipe")
        assert not stop.value.code


def class_names(stack: Stack) -> list[str]:
    return [stack.classes[code] for code in stack.labels]


def read(stack: Stack, name: str = "texture/scale1") -> npt.NDArray[Any]:
    return np.asarray(stack[name][...])


def test_every_snippet_of_the_page_is_run_here() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    titles = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    assert len(titles) == 9
    assert not [title for title in titles if f'"{title}"' not in source]


# -- the store itself --------------------------------------------------------------------------------------------------


def test_scikit_learn_learns_from_the_matrix(stack: Stack) -> None:
    pytest.importorskip("sklearn")
    found = follow("scikit-learn")
    assert found["X"].shape == (8, len(found["columns"]))
    assert found["model"].predict(found["X"]).tolist() == found["y"].tolist()
    assert 0 <= found["accuracy"] <= 1


def test_xarray_opens_the_store_as_a_tree(stack: Stack) -> None:
    pytest.importorskip("xarray")
    found = follow("xarray")
    assert found["paths"].tolist() == stack.paths.tolist()
    assert found["names"].tolist() == list(stack["texture/scale1"].features)
    chosen = stack.select(map="texture/scale1", frequency=0.3)
    np.testing.assert_array_equal(found["values"], read(chosen))
    for name in stack.maps:
        np.testing.assert_array_equal(found["tree"][f"{name}/features"].values, read(stack, name))
        np.testing.assert_array_equal(found["tree"][name]["y"].values, stack[name].y)
    decoded = follow("xarray", 1)
    assert decoded["classes"].tolist() == class_names(stack)
    assert decoded["banks"].tolist() == ["gabor"] * 4


def test_dask_reads_a_map(stack: Stack) -> None:
    found = follow("dask")
    assert found["features"].shape == stack["texture/scale1"].shape
    np.testing.assert_array_equal(found["features"].compute(), read(stack))
    np.testing.assert_allclose(found["means"], read(stack).mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(stack["texture/scale1"].dask().compute(), read(stack))


def test_zarr_python_reads_the_store_be_it_3_1_or_newer(stack: Stack) -> None:
    import zarr

    version = tuple(int(part) for part in zarr.__version__.split(".")[:2])
    # zarr's last release for Python 3.11 is a 3.1; on newer Pythons, the newest is installed
    assert version == (3, 1) if sys.version_info < (3, 12) else version > (3, 1)
    found = follow("zarr-python")
    np.testing.assert_array_equal(found["values"], read(stack)[:8])
    assert found["names"].tolist() == list(stack["texture/scale1"].features)
    assert found["paths"].tolist() == stack.paths.tolist()
    assert "train/猫 tabby/1 é.png" in found["paths"].tolist()
    assert found["classes"] == class_names(stack)


def test_tensorstore_reads_numbers_and_codes(stack: Stack) -> None:
    pytest.importorskip("tensorstore")
    found = follow("tensorstore")
    np.testing.assert_array_equal(found["values"], read(stack)[:8])
    assert found["open_array"]("texture/scale1/features").domain.labels == ("image", "y", "x", "feature")
    np.testing.assert_array_equal(found["open_array"]("texture/scale1/y")[:].read().result(), stack["texture/scale1"].y)
    assert found["classes"] == class_names(stack)


def zarrita() -> tuple[str, Path]:
    """Return node and a folder of packages with zarrita in it, or skip."""
    node = shutil.which("node")
    modules = Path(os.environ.get("FEATPIPE_NODE_MODULES", ROOT.parent / "node_modules"))
    if node is None:
        pytest.skip("node is not installed")
    if not (modules / "zarrita").is_dir() or not (modules / "@zarrita" / "storage").is_dir():
        pytest.skip(f"no zarrita and @zarrita/storage in {modules}: npm install them, and set FEATPIPE_NODE_MODULES")
    return node, modules


def test_zarrita_reads_numbers_and_texts(stack: Stack, tmp_path: Path) -> None:
    node, modules = zarrita()
    (tmp_path / "node_modules").symlink_to(modules, target_is_directory=True)
    (code,) = snippets("JavaScript", "js")
    told = "{shape: values.shape, values: Array.from(values.data), paths: paths.data, classes}"
    script = tmp_path / "read.mjs"
    script.write_text(f"{code}\nconsole.log(JSON.stringify({told}));\n", encoding="utf-8")
    done = subprocess.run([node, str(script)], capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    np.testing.assert_array_equal(np.array(found["values"], np.float32).reshape(found["shape"]), read(stack)[:8])
    assert found["paths"] == stack.paths.tolist()
    assert found["classes"] == class_names(stack)


LOADED = """
if __name__ == "__main__":
    import numpy as np

    X, y = featpipe.open("features.zarr").xy("train")
    batches = list(loader)
    rows = np.concatenate([batch.numpy() for batch, _ in batches])
    order = [int(np.flatnonzero((X == row).all(axis=1))[0]) for row in rows]
    assert sorted(order) == list(range(len(X)))
    assert np.concatenate([batch.numpy() for _, batch in batches]).tolist() == y[order].tolist()
    assert (rows.dtype, str(batches[0][1].dtype)) == (np.float32, "torch.int64")
    print("equal")
"""


def test_torchs_loader_reads_the_dataset(stack: Stack, tmp_path: Path) -> None:
    if find_spec("torch") is None:
        pytest.skip("torch is not installed")
    script = tmp_path / "load.py"
    script.write_text(snippets("PyTorch", "python")[0] + LOADED, encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=240, check=False)
    assert done.stdout == "8 images\nequal\n", done.stderr


# -- exports -----------------------------------------------------------------------------------------------------------

TABLES = "NumPy, pandas, Arrow, AnnData"


# anndata asks pandas 3 for options that pandas is giving up
@pytest.mark.filterwarnings("ignore:The '.*' option is deprecated")
def test_tables_are_read_by_numpy_pandas_and_anndata(stack: Stack) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("anndata")
    export(TABLES)
    X, y = stack.xy()
    numpy = follow(TABLES, 0)
    np.testing.assert_array_equal(numpy["X"], X)
    np.testing.assert_array_equal(numpy["y"], y)
    assert numpy["paths"].tolist() == stack.paths[stack.ok].tolist()
    assert tuple(numpy["classes"]) == stack.classes == tuple(sorted(CLASSES))
    frequencies = [column.get("frequency", np.nan) for column in stack.columns()]
    np.testing.assert_array_equal(numpy["frequencies"], frequencies)
    pandas = follow(TABLES, 1)
    np.testing.assert_array_equal(pandas["X"], stack.xy("train")[0])
    assert pandas["classes"].tolist() == [stack.classes[code] for code in stack.xy("train")[1]]
    assert list(pandas["table"].columns[5:]) == numpy["names"].tolist()
    anndata, texture = follow(TABLES, 2), stack.select(branch="texture")
    np.testing.assert_array_equal(anndata["X"], texture.xy()[0])
    assert anndata["images"]["class_name"].tolist() == [stack.classes[code] for code in y]
    assert anndata["features"]["frequency"].tolist() == [column["frequency"] for column in texture.columns()]


VIEWERS = "napari, and other viewers of OME-Zarr"


@pytest.fixture
def levels(large: Stack) -> list[npt.NDArray[Any]]:
    """Export the image for viewers, and return what its levels must be, (c, y, x) each."""
    export(VIEWERS)
    return [np.moveaxis(read(large, name)[0], -1, 0) for name in ("texture/scale1", "texture/scale2", "texture/scale4")]


# What napari shows, without a window; in a process of its own, for napari warns while it is imported
NAPARI = """
import json, sys
import numpy as np
from napari.components import ViewerModel

viewer = ViewerModel()
for data, facts, kind in layers:
    assert kind == "image"
    viewer.add_image(data, **facts)
for number, layer in enumerate(viewer.layers):
    for level, data in enumerate(layer.data):
        np.save(f"{sys.argv[1]}/{number}-{level}.npy", np.asarray(data))
shown = [[layer.name, layer.visible, list(map(float, layer.contrast_limits))] for layer in viewer.layers]
print("\\n" + json.dumps(shown))
"""


def test_napari_shows_features_as_layers(large: Stack, levels: list[npt.NDArray[Any]], tmp_path: Path) -> None:
    if find_spec("napari_ome_zarr") is None:
        pytest.skip("napari-ome-zarr is not installed")
    script = tmp_path / "show.py"
    script.write_text(snippets(VIEWERS, "python")[0] + NAPARI, encoding="utf-8")
    command = [sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    names, visible, contrasts = zip(*json.loads(done.stdout.splitlines()[-1]), strict=True)
    words = [name.removesuffix(" scale=1") for name in large["texture/scale1"].features]
    assert names == tuple(f"texture: {name}" for name in words)
    assert visible == (True, False, False, False)
    for channel, (low, high) in enumerate(contrasts):
        assert levels[0][channel].min() <= low < high <= levels[0][channel].max()
        for number, level in enumerate(levels):
            np.testing.assert_array_equal(np.load(tmp_path / f"{channel}-{number}.npy"), level[channel])


def test_ome_zarr_reads_the_levels(large: Stack, levels: list[npt.NDArray[Any]]) -> None:
    pytest.importorskip("ome_zarr", reason="ome-zarr is not installed")
    found = follow(VIEWERS, 1)
    for level, expected in zip(found["levels"], levels, strict=True):
        np.testing.assert_array_equal(level, expected)
    assert found["channels"] == [name.removesuffix(" scale=1") for name in large["texture/scale1"].features]
    for name, (scale, translation) in zip(
        large.maps, found["image"].metadata["coordinateTransformations"], strict=True
    ):
        y, x = large[name].y, large[name].x
        assert scale["scale"] == [1.0, y[1] - y[0], x[1] - x[0]]
        assert translation["translation"] == [0.0, y[0], x[0]]


@pytest.mark.parametrize("options", [{}, {"map": "texture/scale4"}])
def test_the_models_of_ome_zarr_find_the_metadata_valid(large: Stack, tmp_path: Path, options: dict[str, Any]) -> None:
    models = pytest.importorskip("ome_zarr_models.v05", reason="ome-zarr-models is not installed")
    import pydantic
    import zarr

    path = tmp_path / "a.ome.zarr"
    featpipe.export(large.select(**options) if options else large, path)
    image = models.Image.from_zarr(zarr.open_group(path, mode="r"))
    assert image.ome_zarr_version == "0.5"
    assert [axis.name for axis in image.attributes.ome.multiscales[0].axes] == ["c", "y", "x"]
    node = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    node["attributes"]["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"].reverse()
    (path / "zarr.json").write_text(json.dumps(node), encoding="utf-8")
    with pytest.raises(pydantic.ValidationError):
        models.Image.from_zarr(zarr.open_group(path, mode="r"))


def test_featpipe_reads_its_own_export_as_an_image(large: Stack, tmp_path: Path) -> None:
    featpipe.export(large.select(scale=1, frequency=0.1, orientation=0), tmp_path / "a.ome.zarr")
    data = {
        "images": {"path": str(tmp_path / "a.ome.zarr"), "values": "raw"},
        "features": {"same": {"layers": [{"convolve": {"bank": "identity", "padding": "reflect"}}]}},
        "store": {"path": str(tmp_path / "b.zarr")},
    }
    run_plan(plan_run(parse_pipeline(data), default_resources(1 << 30, 1)))
    again = read(featpipe.open(tmp_path / "b.zarr"), "same/scale1")
    np.testing.assert_array_equal(again[0, ..., 0], read(large.select(frequency=0.1, orientation=0))[0, ..., 0])
