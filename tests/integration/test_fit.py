"""Learned banks, from image files to features: whose patches they see, what they compute, what they leave."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import numpy.typing as npt
import pytest
import zarr
from numpy.lib.stride_tricks import sliding_window_view
from threadpoolctl import threadpool_info
from typer.testing import CliRunner

import featpipe
from featpipe.cli.commands import app
from featpipe.errors import PlanError
from featpipe.fit.sample import draw_patches
from featpipe.graph import open_workers
from featpipe.kernels.fitted import FittedBank, bank_arrays, write_learned_bank
from featpipe.plan.fitting import FitRequest
from featpipe.run import default_resources, learn, plan_run, run_plan
from featpipe.spec.cluster import Cluster, LocalWorkers
from featpipe.spec.load import parse_pipeline

Float = npt.NDArray[np.floating[Any]]
KMEANS = {"fit": "kmeans", "kernels": 12, "size": 4, "patches": 600, "iterations": 8, "whiten": {"epsilon": 0.1}}
PCA = {"fit": "pca", "kernels": 5, "size": 3, "patches": 400}


def convolve(bank: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"convolve": {"bank": bank, **options}}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    rng = np.random.default_rng(5)
    for split, count in (("train", 9), ("test", 5)):
        for label in ("cat", "dog"):
            (folder / split / label).mkdir(parents=True)
            for i in range(count):
                smooth = np.cumsum(rng.normal(size=(20, 17, 3)), axis=0) * 9 + 128
                iio.imwrite(folder / split / label / f"{i}.png", np.clip(smooth, 0, 255).astype(np.uint8))
    return folder


def pipeline(images: Path, store: Path, *layers: Any, values: str = "raw", **options: Any) -> Any:
    data = {
        "images": {"path": str(images), "values": values},
        "features": {"a": {"layers": [*layers]}},
        "store": {"path": str(store), **options},
    }
    return parse_pipeline(data)


PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


class Kept:
    """A shelf in memory."""

    def __init__(self) -> None:
        self.banks: list[FittedBank] = []

    def load(self, request: FitRequest) -> FittedBank | None:  # noqa: ARG002
        return None

    def save(self, request: FitRequest, bank: FittedBank) -> None:  # noqa: ARG002
        self.banks.append(bank)


def learned(spec: Any, threads: int = 2) -> FittedBank:
    shelf = Kept()
    learn(plan_run(spec, default_resources(threads=threads)), shelf)
    return shelf.banks[-1]


def same(first: FittedBank, second: FittedBank) -> bool:
    return all(
        np.array_equal(a, b) for a, b in zip(bank_arrays(first).values(), bank_arrays(second).values(), strict=True)
    )


def spoil(file: Path) -> None:
    """Leave a header that can be read, and pixels that can not."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def read(folder: Path, names: Iterable[Any]) -> list[Float]:
    return [iio.imread(folder / str(name)).astype(np.float64) for name in names]


def contrast(patches: Float, epsilon: float) -> Float:
    flat = patches.reshape(len(patches), -1)
    normalised: Float = (flat - flat.mean(1, keepdims=True)) / np.sqrt(flat.var(1, keepdims=True) + epsilon)
    return normalised


def test_kmeans_and_triangle_equal_numpy_and_scikit_learn_fed_the_same_patches(pictures: Path, tmp_path: Path) -> None:
    from sklearn.cluster import KMeans

    store = tmp_path / "a.zarr"
    layers = convolve(KMEANS, contrast={"epsilon": 10}, response="distance"), {"activate": "triangle"}
    pool = {"pool": {"sum": {"grid": [2, 2]}}}
    run_plan(plan_run(pipeline(pictures, store, *layers, pool), default_resources(threads=2)))

    root: Any = zarr.open_group(store, mode="r")
    (fit,) = root["fits"].groups()
    images = read(pictures, root["path"][:])
    patches = np.stack([images[i][y : y + 4, x : x + 4] for i, y, x, _ in fit[1]["sources"][:]])
    patches = contrast(patches, 10)
    mean = patches.mean(0)
    lengths, axes = np.linalg.eigh(np.cov(patches.T, bias=True))
    whiten = axes @ np.diag(1 / np.sqrt(lengths + 0.1)) @ axes.T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = KMeans(12, init="random", n_init=1, max_iter=8, random_state=0, algorithm="lloyd")
        model.fit(((patches - mean) @ whiten).astype(np.float32))
    expected = []
    for image in images:
        windows = sliding_window_view(image, (4, 4), (0, 1)).transpose(0, 1, 3, 4, 2)
        seen = (contrast(windows.reshape(-1, 4, 4, 3), 10) - mean) @ whiten
        far = np.linalg.norm(seen[:, None] - model.cluster_centers_, axis=2)
        near = np.maximum(far.mean(1, keepdims=True) - far, 0).reshape(*windows.shape[:2], 12)
        halves = np.array_split(near, 2, axis=0)
        expected.append([[part.sum((0, 1)) for part in np.array_split(half, 2, axis=1)] for half in halves])
    found = featpipe.open(store)["a/scale1"][:]
    np.testing.assert_allclose(found, np.array(expected), rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("fit", ["kmeans", "zca-patches"])
def test_projections_are_those_of_whitened_patches(fit: str, pictures: Path, tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    bank = {"fit": fit, "kernels": 6, "size": 3, "patches": 500, "whiten": {"epsilon": 0.5}}
    run_plan(plan_run(pipeline(pictures, store, convolve(bank, bias=0.25)), default_resources(threads=1)))
    root: Any = zarr.open_group(store, mode="r")
    ((_, saved),) = root["fits"].groups()
    images = read(pictures, root["path"][:])
    seen = np.stack([images[i][y : y + 3, x : x + 3].ravel() for i, y, x, _ in saved["sources"][:]])
    lengths, axes = np.linalg.eigh(np.cov(seen.T, bias=True))
    whiten = axes @ np.diag(1 / np.sqrt(lengths + 0.5)) @ axes.T
    np.testing.assert_allclose(saved["whitening"][:].reshape(27, 27), whiten, atol=1e-7)
    vectors = saved["weights"][:].reshape(6, 27) @ np.linalg.inv(whiten)
    np.testing.assert_allclose(saved["squares"][:], (vectors**2).sum(1), rtol=1e-6)
    windows = sliding_window_view(images[0], (3, 3), (0, 1)).transpose(0, 1, 3, 4, 2).reshape(18, 15, 27)
    wanted = ((windows - seen.mean(0)) @ whiten) @ vectors.T + 0.25
    found = featpipe.open(store)["a/scale1"][0]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


def test_components_have_a_sign_of_their_own(pictures: Path, tmp_path: Path) -> None:
    bank = learned(pipeline(pictures, tmp_path / "a.zarr", convolve({**PCA, "kernels": 26})))
    kernels = bank.weights.reshape(26, 27)
    np.testing.assert_allclose(kernels @ kernels.T, np.eye(26), atol=1e-9)
    assert (kernels[np.arange(26), np.abs(kernels).argmax(1)] > 0).all()


def test_kmeans_runs_on_one_thread(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.cluster import KMeans

    threads: list[int] = []
    fit = KMeans.fit

    def watched(model: Any, *values: Any) -> Any:
        threads.extend(pool["num_threads"] for pool in threadpool_info())
        return fit(model, *values)

    monkeypatch.setattr(KMeans, "fit", watched)
    learned(pipeline(pictures, tmp_path / "a.zarr", convolve(KMEANS)))
    assert set(threads) == {1}


def test_patches_are_drawn_from_every_place_of_every_image() -> None:
    shapes = {3: (6, 5), 7: (4, 4), 9: (9, 20)}
    drawn = draw_patches([3, 7, 9], shapes, (4, 3), 20_000, 1, features=2)
    assert drawn.shape == (20_000, 4)
    for image, (height, width) in shapes.items():
        mine = drawn[drawn[:, 0] == image]
        assert 6000 < len(mine) < 7400
        places, counts = np.unique(mine[:, 1:3], axis=0, return_counts=True)
        assert places.tolist() == [[y, x] for y in range(height - 3) for x in range(width - 2)]
        assert counts.min() > 0.5 * counts.mean()
        assert np.unique(mine[:, 3]).tolist() == [0, 1]


@pytest.mark.parametrize("bank", [KMEANS, PCA], ids=lambda bank: bank["fit"])
def test_nothing_of_the_test_split_touches_a_fit(bank: dict[str, Any], pictures: Path, tmp_path: Path) -> None:
    spec = pipeline(pictures, tmp_path / "a.zarr", convolve(bank, contrast={"epsilon": 10}))
    before = learned(spec)
    for file in (pictures / "test").rglob("*.png"):
        iio.imwrite(file, np.random.default_rng(0).integers(0, 256, (20, 17, 3), np.uint8))
    assert same(learned(spec), before)
    for file in (pictures / "test").rglob("*.png"):
        spoil(file)
    assert same(learned(spec), before)
    changed = next((pictures / "train").rglob("*.png"))
    iio.imwrite(changed, np.random.default_rng(0).integers(0, 256, (20, 17, 3), np.uint8))
    assert not same(learned(spec), before)


@pytest.mark.parametrize("fit", ["kmeans", "pca", "zca-patches", "random-patches"])
def test_a_seed_gives_the_same_bank_however_it_is_computed(fit: str, pictures: Path, tmp_path: Path) -> None:
    bank = {"fit": fit, "kernels": 7, "size": 3, "patches": 500, "seed": 3}
    blur = {"convolve": {"bank": "gaussian", "sigmas": 1, "padding": "reflect"}}

    def with_store(**store: Any) -> FittedBank:
        return learned(pipeline(pictures, tmp_path / "a.zarr", blur, convolve(bank), **store), store.pop("threads", 2))

    first = with_store()
    assert same(with_store(batch=3), first)
    assert same(with_store(block=[8, 8]), first)  # patches are then computed one by one
    spec = pipeline(pictures, tmp_path / "a.zarr", blur, convolve(bank))
    assert same(learned(spec, threads=1), first)
    other = pipeline(pictures, tmp_path / "a.zarr", blur, convolve({**bank, "seed": 4}))
    assert not same(learned(other), first)


def test_a_cluster_learns_the_same_bank(pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    spec = pipeline(pictures, tmp_path / "a.zarr", convolve(KMEANS))
    plan = plan_run(spec, default_resources(threads=1))
    shelf = Kept()
    with open_workers(Cluster(local=LocalWorkers(workers=2))) as workers:
        learn(plan, shelf, workers=workers)
    assert same(shelf.banks[0], learned(spec))


def test_a_fit_behind_other_layers_sees_their_maps(pictures: Path, tmp_path: Path) -> None:
    before = [{"convolve": {"bank": "sobel", "padding": "reflect"}}, "modulus", {"pool": {"max": 2}}]
    spec = pipeline(pictures, tmp_path / "a.zarr", *before, convolve({**PCA, "size": 2, "kernels": 3}, dilation=2))
    bank = learned(spec)
    root = pictures / "train"
    names = sorted(str(file.relative_to(root)) for file in root.rglob("*.png"))
    maps = featpipe.extract(
        np.stack(read(root, names)).astype(np.uint8),
        {"images": {"path": "x.npy", "values": "raw"}, "features": {"a": {"layers": before}}},
    )["a/scale1"].astype(np.float64)
    first = int(bank.sources[:, 0].min())
    patches = np.stack([maps[i - first, y : y + 3 : 2, x : x + 3 : 2] for i, y, x, _ in bank.sources])
    flat = patches.reshape(len(patches), -1)
    flat -= flat.mean(1, keepdims=True)
    _, axes = np.linalg.eigh(flat.T @ flat)
    kernels = bank.weights.reshape(3, -1)
    np.testing.assert_allclose(np.abs(kernels @ axes[:, ::-1][:, :3]), np.eye(3), atol=1e-5)
    assert (kernels[np.arange(3), np.abs(kernels).argmax(1)] > 0).all()


def test_two_fits_in_a_chain_the_second_on_the_responses_of_the_first(pictures: Path, tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    layers = convolve(PCA), {"activate": "abs"}, convolve({**PCA, "kernels": 4}, channels="each")
    run_plan(plan_run(pipeline(pictures, store, *layers), default_resources(threads=2)))
    stack = featpipe.open(store)
    assert stack["a/scale1"].shape[-1] == 4 * 5
    root: Any = zarr.open_group(store, mode="r")
    told = featpipe.open(store).info()["learned"]
    assert sorted(tuple(one["shape"]) for one in told) == [(4, 3, 3, 1), (5, 3, 3, 3)]
    done = CliRunner().invoke(app, ["info", str(store)])
    assert "pca, 5 kernels of 3×3×3, from 400 patches, seed 0" in " ".join(done.stdout.split())
    shapes = sorted(fit["weights"].shape for _, fit in root["fits"].groups())
    assert shapes == [(4, 3, 3, 1), (5, 3, 3, 3)]
    second = next(fit for _, fit in root["fits"].groups() if fit["weights"].shape[0] == 4)
    assert set(second["sources"][:, 3]) == set(range(5))


def test_patches_become_kernels_of_unit_length(pictures: Path, tmp_path: Path) -> None:
    plain = learned(pipeline(pictures, tmp_path / "a.zarr", convolve({**PCA, "fit": "random-patches"})))
    collection = plan_run(pipeline(pictures, tmp_path / "a.zarr", {"activate": "abs"}), default_resources()).collection
    images = read(pictures, collection.paths)
    drawn = np.stack([images[i][y : y + 3, x : x + 3] for i, y, x, _ in plain.sources]).reshape(-1, 27)
    drawn -= drawn.mean(1, keepdims=True)
    drawn /= np.maximum(np.linalg.norm(drawn, axis=1, keepdims=True), 1e-9)
    assert (np.abs(plain.weights.reshape(-1, 27) @ drawn.T).max(1) > 1 - 1e-6).all()

    whitened = learned(pipeline(pictures, tmp_path / "a.zarr", convolve({**PCA, "fit": "zca-patches"})))
    vectors = whitened.weights.reshape(5, -1) @ np.linalg.inv(whitened.whitening.reshape(27, 27))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-9)
    np.testing.assert_allclose(whitened.squares, 1, rtol=1e-9)


def test_a_run_that_goes_on_takes_the_bank_that_is_there(pictures: Path, tmp_path: Path) -> None:
    from featpipe.run.standing import identities_now
    from featpipe.store.fits import StoreShelf
    from featpipe.store.place import LocalPlace

    spec = pipeline(pictures, tmp_path / "a.zarr", convolve(KMEANS))
    plan = plan_run(spec, default_resources(threads=1))
    run_plan(plan)
    shelf = StoreShelf(LocalPlace(tmp_path / "a.zarr"), identities_now(LocalPlace(tmp_path / "a.zarr"), plan).fit)
    for file in pictures.rglob("*.png"):
        file.unlink()
    found = learn(plan, shelf)
    assert not found.program.fits
    (request,) = plan.program.fits
    bank = shelf.load(request)
    assert bank is not None
    assert bank.facts["parameters"]["kernels"] == 12
    stored: Any = zarr.open_group(tmp_path / "a.zarr" / "fits" / request.key)
    stored["bias"][3] += 1e-3
    assert shelf.load(request) is None  # it is not what was learned
    (tmp_path / "a.zarr" / "fits" / request.key / "bias" / "zarr.json").unlink()
    assert shelf.load(request) is None


def test_a_store_keeps_the_banks_that_its_pipeline_asks_for_and_no_others(pictures: Path, tmp_path: Path) -> None:
    first, second = convolve(KMEANS), convolve(PCA)
    keys = []
    for layer in (first, second):
        plan = plan_run(pipeline(pictures, tmp_path / "a.zarr", layer), default_resources())
        run_plan(plan, overwrite=True)
        keys.append(plan.program.fits[0].key)
        assert [folder.name for folder in (tmp_path / "a.zarr" / "fits").iterdir() if folder.is_dir()] == keys[-1:]
    assert keys[0] != keys[1]
    run_plan(plan_run(pipeline(pictures, tmp_path / "a.zarr", {"convolve": {"bank": "sobel"}}), default_resources()),
             overwrite=True)  # fmt: skip
    assert not (tmp_path / "a.zarr" / "fits").exists()


def test_a_bank_file_gives_the_same_features_in_another_pipeline(pictures: Path, tmp_path: Path) -> None:
    options = {"contrast": {"epsilon": 10.0}, "response": "distance"}
    spec = pipeline(pictures, tmp_path / "a.zarr", convolve(KMEANS, **options), {"pool": {"mean": 3}})
    run_plan(plan_run(spec, default_resources(threads=1)))
    file = tmp_path / "pipeline.yaml"
    data = {
        "images": {"path": str(pictures), "values": "raw"},
        "features": {"other": {"layers": [{"save": "x"}, convolve(KMEANS, **options)]}},
    }
    file.write_text(json.dumps(data))
    command = [sys.executable, "-m", "featpipe", "fit", str(file), "-o", str(tmp_path / "bank.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "kmeans, 12 kernels of 4×4×3" in done.stdout
    use = convolve({"file": str(tmp_path / "bank.npz")}, **options)
    run_plan(plan_run(pipeline(pictures, tmp_path / "b.zarr", use, {"pool": {"mean": 3}}), default_resources()))
    a, b = (featpipe.open(tmp_path / name)["a/scale1"] for name in ("a.zarr", "b.zarr"))
    assert a[:].tobytes() == b[:].tobytes()
    array = np.stack(read(pictures, ["train/cat/0.png"])).astype(np.uint8)
    spec = {"images": {"path": "x.npy", "values": "raw"}, "features": {"a": {"layers": [use]}}}
    assert featpipe.extract(array, spec)["a/scale1"].shape == (1, 17, 14, 12)
    with pytest.raises(PlanError, match=r"learned with contrast: \{epsilon: 10\}, and this layer has no contrast"):
        plan_run(pipeline(pictures, tmp_path / "c.zarr", convolve(use["convolve"]["bank"])), default_resources())
    (tmp_path / "bank.npz").write_bytes((tmp_path / "bank.npz").read_bytes()[:700])
    with pytest.raises(PlanError, match=r"bank\.npz: cannot be used"):
        plan_run(pipeline(pictures, tmp_path / "c.zarr", use), default_resources())


def test_learning_takes_at_most_the_planned_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), np.uint8))
    bank = {**KMEANS, "kernels": 20, "size": 8, "patches": 120_000, "iterations": 2}
    data = {
        "images": {"path": "images.npy", "values": "raw"},
        "features": {"a": {"layers": [convolve(bank, contrast={"epsilon": 10}), {"pool": {"mean": "global"}}]}},
    }
    (tmp_path / "pipeline.yaml").write_text(json.dumps(data))
    file = str(tmp_path / "pipeline.yaml")
    command = [sys.executable, "-m", "featpipe"]
    planned = json.loads(subprocess.run([*command, "plan", file, "--json"], capture_output=True, check=True).stdout)
    run = [sys.executable, "-c", PEAK, *command, "run", file, "--quiet"]
    measured = int(subprocess.run(run, capture_output=True, check=True).stdout)
    assert planned["memory"]["fit"] > 3 * 120_000 * 192 * 4
    assert measured <= planned["memory"]["peak"]


def test_a_learned_bank_is_drawn_from_its_file(pictures: Path, tmp_path: Path) -> None:
    file, png = tmp_path / "bank.npz", tmp_path / "bank.png"
    write_learned_bank(str(file), learned(pipeline(pictures, tmp_path / "a.zarr", convolve(KMEANS))))
    words = ["banks", "show", "learned", "--set", f"bank.file={file}", "--png", str(png)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    drawn = iio.imread(png).astype(int)
    assert (np.ptp(drawn[..., :3], axis=2) > 40).mean() > 0.01  # three channels are colours
    done = CliRunner().invoke(app, ["banks", "show", "kmeans", "--png", str(tmp_path / "no.png")])
    assert done.exit_code == 2
    assert "Learn it with featpipe fit" in done.stderr


@pytest.mark.parametrize(
    ("bank", "options", "message"),
    [
        ({**KMEANS, "split": "val"}, {}, "there is no split 'val'. Use one of"),
        ({**KMEANS, "size": 40}, {}, "window 40 px exceeds its 20×17 input"),
        ({**PCA, "kernels": 28}, {}, "asks for 28, and there are 27 components"),
        ({**KMEANS, "patches": 2_000_000_000}, {}, "GiB. Draw fewer"),
        ({**KMEANS, "fit": "kmean"}, {}, "there is no fit the text 'kmean'. Did you mean kmeans?"),
        ({**PCA, "iterations": 3}, {}, "bank.iterations: has no meaning for pca"),
        ({**PCA, "whiten": True}, {}, "bank.whiten: has no meaning for pca"),
        ({**KMEANS, "kernels": 601}, {}, "bank.kernels: is 601, more than the 600 patches"),
        ({**KMEANS, "file": "x.npz"}, {}, "unknown key"),
        (KMEANS, {"channels": "each", "response": "distance"}, "each does not go with distances"),
        (KMEANS, {"bias": 1, "response": "distance"}, "bias: has no meaning with distances"),
        ("sobel", {"response": "distance"}, "distance needs centroids"),
        ({"file": "nowhere.npz"}, {}, "there is no such file"),
    ],
)
def test_what_cannot_be_learned_is_told(
    bank: Any, options: dict[str, Any], message: str, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(featpipe.FeatpipeError) as caught:
        learned(pipeline(pictures, tmp_path / "a.zarr", convolve(bank, **options)))
    assert message in str(caught.value)
    assert not (tmp_path / "a.zarr").exists()


def test_without_scikit_learn_a_plan_says_what_to_install(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(PlanError, match=r"bank\.fit: kmeans needs scikit-learn.*pip install 'featpipe\[learn\]'"):
        learned(pipeline(pictures, tmp_path / "a.zarr", convolve(KMEANS)))
    assert learned(pipeline(pictures, tmp_path / "a.zarr", convolve(PCA))).weights.shape == (5, 3, 3, 3)


def test_images_of_one_value_teach_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.full((6, 12, 12), 7, np.uint8))
    spec = pipeline(tmp_path / "flat.npy", tmp_path / "a.zarr", convolve({**KMEANS, "kernels": 2}))
    with pytest.raises(PlanError, match="there are 0 different patches"):
        learned(spec)


def test_an_unreadable_image_teaches_nothing_and_sinks_nothing(pictures: Path, tmp_path: Path) -> None:
    broken = pictures / "train" / "cat" / "3.png"
    spoil(broken)
    spec = pipeline(pictures, tmp_path / "a.zarr", convolve(KMEANS))
    bank = learned(spec)
    row = list(plan_run(spec, default_resources()).collection.paths).index("train/cat/3.png")
    assert row not in bank.sources[:, 0]
    assert 400 < len(bank.sources) < 600


def test_extract_asks_for_a_bank_that_has_been_learned() -> None:
    with pytest.raises(PlanError, match=r"Learn it with featpipe fit, and write bank: \{file: bank.npz\}"):
        featpipe.extract(np.zeros((1, 9, 9)), {"features": {"a": {"layers": [convolve(PCA)]}}})
