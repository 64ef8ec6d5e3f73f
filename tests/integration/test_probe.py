"""``featpipe probe`` end to end: on stores that ``featpipe run`` wrote, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest

import featpipe as package
from featpipe.cli import app
from featpipe.cli.progress import StageLines
from tests.unit.probe_examples import draw, write_stack
from tests.unit.store_examples import make_own

pytest.importorskip("scipy")

PIPELINE = """\
images: {path: images/}
features:
  texture:
    layers: [{convolve: {bank: gabor, frequencies: [0.1, 0.3], orientations: 4, padding: reflect}}, modulus,
             {pool: {mean: {grid: [2, 2]}}}]
  edges:
    layers: [{convolve: {bank: sobel}}, modulus, {pool: {max: {grid: [1, 1]}}}]
store: {path: out.zarr}
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the features of 90 images of stripes, level, steep and none, one of which cannot be read."""
    folder = tmp_path_factory.mktemp("probe")
    random = np.random.default_rng(0)
    for i in range(90):
        kind = ("level", "none", "steep")[i % 3]
        y, x = np.indices((24, 24))
        wave = {"level": np.sin(y * 1.9), "steep": np.sin(x * 1.9), "none": np.zeros((24, 24))}[kind]
        pixels = np.clip(128 + 25 * wave + random.normal(0, 40, (24, 24)), 0, 255).astype(np.uint8)
        place = folder / "images" / ("train" if i < 60 else "test") / kind
        place.mkdir(parents=True, exist_ok=True)
        iio.imwrite(place / f"{i}.png", pixels)
    (folder / "images" / "train" / "none" / "1.png").write_bytes(b"no picture")
    (folder / "pipeline.yaml").write_text(PIPELINE, encoding="utf-8")
    with pytest.raises(SystemExit):
        app(["run", str(folder / "pipeline.yaml"), "--quiet"], prog_name="featpipe")
    return folder / "out.zarr"


# -- what it says ------------------------------------------------------------------------------------------------------


def test_a_probe_tells_accuracy_curve_and_classes(store: Path, featpipe: Any) -> None:
    done = featpipe("probe", store)
    assert done.code == 0, done.err
    found = package.probe(store)
    low, high = found.interval
    words = (
        f"{100 * found.accuracy:.1f} % on 30 test images (95 % interval {100 * low:.1f} % to {100 * high:.1f} %)",
        "33.3 % if every answer were the commonest class", f"ridge, strength {found.strength:g}, ",
        "59 images; 12 of them chose the strength", "33 features of texture/scale1, edges/scale1", "1 unreadable",
        "level", "steep", "recall", "precision", "most often taken for", "chosen",
    )  # fmt: skip
    for text in words:
        assert text in done.out
    assert found.accuracy > 0.6
    assert "Traceback" not in done.err
    assert "\x1b" not in done.out


def test_a_probe_as_json_has_all_figures(store: Path, featpipe: Any) -> None:
    facts = json.loads(featpipe("probe", store, "--json", "--seed", 3, "--validation", 0.25).out)
    found = package.probe(store, seed=3, validation=0.25)
    assert facts["accuracy"] == found.accuracy
    assert 0 <= facts["interval"][0] < facts["accuracy"] < facts["interval"][1] <= 1
    assert facts["classes"] == ["level", "none", "steep"]
    assert [one["class"] for one in facts["per_class"]] == facts["classes"]
    assert np.trace(facts["confusion"]) == facts["correct"]
    assert np.sum(facts["confusion"]) == facts["counts"]["test"] == 30
    assert facts["counts"]["train"] == 59
    assert facts["counts"]["unreadable"] == 1
    assert facts["seconds"] > 0
    assert facts["strength"] in [one["strength"] for one in facts["validation"]]
    assert len(facts["validation"]) == 11


def test_both_classifiers_are_told_one_after_the_other(store: Path, featpipe: Any, tmp_path: Path) -> None:
    facts = json.loads(featpipe("probe", store, "--json", "--classifier", "both", "--png", tmp_path / "c.png").out)
    assert list(facts) == ["ridge", "logistic"]
    for kind, one in facts.items():
        assert one["classifier"] == kind
        assert one["accuracy"] == package.probe(store, classifier=kind).accuracy
        assert Path(one["picture"]) == tmp_path / f"c-{kind}.png"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c-logistic.png", "c-ridge.png"]
    out = featpipe("probe", store, "--classifier", "both").out
    assert out.index("ridge, strength") < out.index("logistic, strength")
    assert "C = " in out


def test_options_choose_maps_splits_and_strengths(store: Path, featpipe: Any) -> None:
    options = ("--map", "texture/scale1", "--strength", 10, "--train", "test", "--test", "train", "--memory", "1GiB")
    facts = json.loads(featpipe("probe", store, "--json", *options, "--threads", 1).out)
    assert facts["maps"] == ["texture/scale1"]
    assert facts["counts"]["features"] == 32
    assert (facts["counts"]["train"], facts["counts"]["test"]) == (30, 59)
    assert (facts["strength"], facts["validation"]) == (10.0, [])
    branch = json.loads(featpipe("probe", store, "--json", "--branch", "edges", "--strength", 1, "--strength", 9).out)
    assert branch["maps"] == ["edges/scale1"]
    assert [one["strength"] for one in branch["validation"]] == [9.0, 1.0]


def test_many_classes_are_listed_worst_first(tmp_path: Path, featpipe: Any) -> None:
    maps, _, splits = draw(400, 3)
    labels, names = np.arange(400) % 40, [f"class {i:02d}" for i in range(40)]
    facts = featpipe("probe", write_stack(tmp_path / "a.zarr", maps, labels, splits, classes=names))
    assert "the 12 of 40 with the least recall; --json tells all" in facts.out
    assert sum(name in facts.out.split("test images  recall")[1] for name in names) >= 12
    assert len(facts.out.splitlines()) < 45


@pytest.mark.parametrize("count", [2, 10, 100, 150])
def test_the_confusion_matrix_is_drawn(count: int, tmp_path: Path, featpipe: Any) -> None:
    pytest.importorskip("matplotlib")
    maps, _, splits = draw(600, 3)
    labels, names = np.arange(600) % count, [f"{i} 猫 $x" for i in range(count)]
    path = write_stack(tmp_path / "a.zarr", maps, labels, splits, classes=names)
    done = featpipe("probe", path, "--strength", 100, "--png", tmp_path / "c.png", "--quiet")
    assert done.code == 0, done.err
    assert not done.err
    pixels = iio.imread(tmp_path / "c.png")
    assert 400 < pixels.shape[0] < 2400
    assert 400 < pixels.shape[1] < 2400
    assert pixels[..., :3].std() > 5
    assert "c.png" in done.out


def test_progress_has_rate_and_time_left_and_quiet_has_none(
    store: Path, featpipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not featpipe("probe", store, "--quiet").err
    monkeypatch.setattr(StageLines.__init__, "__defaults__", (0.0,))
    err = featpipe("probe", store, "--classifier", "logistic").err
    assert "means and deviations: 59 of 59 images (100%), " in err
    assert "images/s" in err
    assert "logistic, strength 1e+08 (1 of 11): " in err
    assert "test: 30 of 30 images (100%)" in err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals")
def test_a_terminal_sees_a_bar(store: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-W", "error", "-m", "featpipe", "probe", str(store)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:
                break
            if not part:
                break
            seen += part
        out, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0
    assert "━".encode() in seen
    assert b"images/s" in seen
    assert b"\x1b" not in out


# -- what it refuses ---------------------------------------------------------------------------------------------------


def make_store(folder: Path, **changes: Any) -> Path:
    maps, labels, splits = draw(60, 3)
    facts: dict[str, Any] = {"labels": labels, "splits": splits, **changes}
    return write_stack(folder / "a.zarr", maps, **facts)


REFUSALS: dict[str, tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]] = {
    "no classes": ({"labels": [-1] * 60, "classes": ()}, (), ("no classes", "Set images.labels")),
    "no splits": ({"splits": [-1] * 60, "split_names": ()}, (), ("not split", "Set images.split, e.g. {test: 0.2")),
    "no test split": (
        {"splits": [0] * 60, "split_names": ("train",)}, (), ("no split 'test'", "only train: set images.split"),
    ),
    "mistyped split": ({}, ("--test", "tset"), ("no split 'tset'", "Did you mean test?", "There are train, test")),
    "empty test split": ({"splits": [0] * 60}, (), ("no image in the split 'test'", "--test")),
    "one split twice": ({}, ("--test", "train"), ("'train' cannot both", "different splits")),
    "one class": ({"labels": [1] * 60}, (), ("images of the split 'train' are of one class, 'bee'", "images.labels")),
    "an image of each class": (
        {"labels": [0, 1, 2, 3] + [-1] * 56, "splits": [0, 0, 1, 1] + [1] * 56, "classes": ("a", "b", "c", "d")}, (),
        ("no class with two images in the split 'train'", "--strength 1"),
    ),
    "partial": ({"finish": False}, (), ("is not complete", "Run the pipeline again")),
    "unknown map": ({}, ("--map", "a/scale2"), ("no map 'a/scale2'", "Did you mean a/scale1?")),
    "unknown branch": ({}, ("--branch", "z"), ("no branch 'z'", "a, b")),
    "unknown kind": ({}, ("--classifier", "svm"), ("--classifier", "ridge, logistic or both, got 'svm'")),
    "no strength": ({}, ("--strength", "0"), ("strength", "greater than 0, got 0")),
    "all for validation": ({}, ("--validation", "1"), ("validation", "between 0 and 1, got 1")),
    "little memory": ({}, ("--memory", "1MB"), ("--memory", "18 features", "fewer features: --map")),
    "no picture": ({}, ("--png", "a.txt"), ("a.txt", "not the name of a picture", ".png")),
    "no place": ({}, ("--png", "nowhere/a.png"), ("its directory does not exist",)),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_probed_is_refused_in_words(name: str, tmp_path: Path, featpipe: Any) -> None:
    pytest.importorskip("matplotlib")
    changes, options, words = REFUSALS[name]
    done = featpipe("probe", make_store(tmp_path, **changes), *options)
    assert done.code in (1, 2)
    assert not done.out
    for word in words:
        assert word in done.err
    assert "bug" not in done.err
    assert "Traceback" not in done.err


def test_maps_for_each_image_are_no_matrix_but_advice(tmp_path: Path, featpipe: Any) -> None:
    make_own(tmp_path / "o.zarr")
    done = featpipe("probe", tmp_path / "o.zarr")
    assert done.code == 2
    assert "no matrix. End a branch with pool: {mean: {grid" in done.err


def test_no_store_at_all(tmp_path: Path, featpipe: Any) -> None:
    done = featpipe("probe", tmp_path / "none.zarr")
    assert done.code == 2
    assert "no such file or directory" in done.err


@pytest.mark.parametrize(("library", "extra"), [("scipy", "learn"), ("matplotlib", "pictures")])
def test_missing_libraries_are_told_in_words(
    library: str, extra: str, store: Path, featpipe: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, library, None)
    done = featpipe("probe", store, "--png", tmp_path / "c.png")
    assert done.code == 1
    assert f"the package {library}, which is not installed. pip install 'featpipe[{extra}]'" in done.err
