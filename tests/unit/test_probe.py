"""Linear classifiers on a stack, against scikit-learn's on the same matrix in memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featpipe.errors import PlanError, StoreError
from featpipe.probes import ridge, stream
from featpipe.probes.linear import Linear
from featpipe.probes.logistic import Search
from featpipe.probes.parts import draw_validation, make_parts
from featpipe.probes.probe import probe
from featpipe.probes.result import ProbeResult, wilson
from featpipe.probes.ridge import FeatureEquations, ImageEquations
from featpipe.probes.standard import Moments
from featpipe.probes.stream import Table
from featpipe.stack import Stack, open_stack
from tests.unit.probe_examples import Floats, Maps, draw, flat, write_stack

pytest.importorskip("sklearn")

from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

N = 300
STRENGTHS = (1e4, 1e3, 1e2, 1e1, 1.0)
FEW, MANY = 3, 60
"""Features of a map: 18 in all, fewer than images to train on; and 360, more."""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few hundred images be many blocks, and a few dozen features many tiles."""
    monkeypatch.setattr(stream, "BLOCK_ROWS", 61)
    monkeypatch.setattr(ridge, "TILE", 7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probe")
    for features in (FEW, MANY):
        write_stack(folder / f"{features}.zarr", *draw(N, features))
    maps, labels, splits = draw(N, FEW, classes=2)
    write_stack(folder / "two.zarr", maps, labels, splits, classes=("yes", "no"))
    return folder


def model(classifier: str, strength: float) -> Any:
    if classifier == "ridge":
        return RidgeClassifier(alpha=strength)
    return LogisticRegression(C=1 / strength, tol=1e-6, max_iter=5000)


def coefficients(linear: Linear, classifier: str) -> tuple[Floats, Floats]:
    """Return weights and intercept as scikit-learn has them: of two classes only one set."""
    weights, intercept = linear.weights[0].T, linear.intercept[0]
    if len(weights) == 2:
        factor = 1 if classifier == "ridge" else 2
        return factor * weights[1:], factor * intercept[1:]
    return weights, intercept


# -- the same as scikit-learn ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("features", [FEW, MANY])
@pytest.mark.parametrize("classifier", ["ridge", "logistic"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_probe_is_scikit_learns_classifier_on_standardised_features(
    folder: Path, features: int, classifier: Any, threads: int
) -> None:
    maps, labels, splits = draw(N, features)
    X, train, test = flat(maps), splits == 0, splits == 1
    found = probe(folder / f"{features}.zarr", classifier=classifier, strengths=STRENGTHS, threads=threads)
    expected = make_pipeline(StandardScaler(), model(classifier, found.strength)).fit(X[train], labels[train])
    weights, intercept = coefficients(found.linear, classifier)
    tolerance = 1e-9 if classifier == "ridge" else 4e-3
    largest = np.abs(expected[-1].coef_).max()
    np.testing.assert_allclose(weights, expected[-1].coef_, atol=tolerance * largest)
    np.testing.assert_allclose(intercept, expected[-1].intercept_, atol=tolerance)
    np.testing.assert_array_equal(found.predict(X), expected.predict(X))
    assert found.accuracy == pytest.approx(expected.score(X[test], labels[test]))
    assert 0.4 < found.accuracy < 1.0  # or all this says little
    matrix = confusion_matrix(labels[test], expected.predict(X[test]))
    np.testing.assert_array_equal(found.confusion, matrix)


@pytest.mark.parametrize("features", [FEW, MANY])
@pytest.mark.parametrize("classifier", ["ridge", "logistic"])
def test_the_validation_curve_is_that_of_a_pipeline_that_never_saw_the_validation_part(
    folder: Path, features: int, classifier: Any
) -> None:
    maps, labels, _ = draw(N, features)
    path, X = folder / f"{features}.zarr", flat(maps)
    found = probe(path, classifier=classifier, strengths=STRENGTHS, validation=0.3, seed=5)
    parts = make_parts(open_stack(path), "train", "test", 0.3, 5)
    assert len(found.validation) >= 3
    for trial in found.validation:
        pipeline = make_pipeline(StandardScaler(), model(classifier, trial.strength))
        expected = pipeline.fit(X[parts.fit], labels[parts.fit]).score(X[parts.validation], labels[parts.validation])
        assert trial.accuracy == pytest.approx(expected)
    best = max(trial.accuracy for trial in found.validation)
    assert found.strength == max(trial.strength for trial in found.validation if trial.accuracy == best)


@pytest.mark.parametrize("classifier", ["ridge", "logistic"])
def test_two_classes_have_one_set_of_weights_as_in_scikit_learn(folder: Path, classifier: Any) -> None:
    maps, labels, splits = draw(N, FEW, classes=2)
    X, train = flat(maps), splits == 0
    found = probe(folder / "two.zarr", classifier=classifier, strengths=[10.0])
    expected = make_pipeline(StandardScaler(), model(classifier, 10.0)).fit(X[train], labels[train])
    weights, intercept = coefficients(found.linear, classifier)
    theirs = np.atleast_2d(expected[-1].coef_)
    np.testing.assert_allclose(weights, theirs, atol=2e-3 * np.abs(theirs).max())
    np.testing.assert_allclose(intercept, expected[-1].intercept_, atol=2e-3)
    np.testing.assert_array_equal(found.predict(X), expected.predict(X))
    assert found.classes == ("yes", "no")
    assert found.validation == ()
    assert found.counts["validation"] == 0


@pytest.mark.parametrize("classes", [2, 4])
def test_the_logistic_objective_is_scikit_learns(folder: Path, classes: int) -> None:
    maps, labels, splits = draw(N, FEW, classes)
    X, rows = flat(maps), np.flatnonzero(splits == 0)
    stack = open_stack(folder / ("two.zarr" if classes == 2 else f"{FEW}.zarr"))
    scaler = StandardScaler().fit(X[rows])
    standard = Moments.of(X[rows]).standard()
    search = Search(Table(stack, 1), rows, labels, classes, standard, 0, tolerance=1e-7)
    found = search.run(3.0, None, "")
    expected = LogisticRegression(C=1 / 3.0, tol=1e-10, max_iter=5000).fit(scaler.transform(X[rows]), labels[rows])
    weights, _ = coefficients(found.linear, "logistic")
    np.testing.assert_allclose(weights, expected.coef_, atol=5e-4 * np.abs(expected.coef_).max())  # float32
    step, start = 1e-3, found.parameters + 0.1
    _, gradient = search.objective(start, 3.0)
    for i in (0, 5, 18):
        ahead, behind = (
            search.objective(start + sign * step * (np.arange(len(start)) == i), 3.0)[0] for sign in (1, -1)
        )
        assert gradient[i] == pytest.approx((ahead - behind) / (2 * step), rel=1e-2, abs=1e-4)


@pytest.mark.parametrize("kept", [0, 130, 10**6])
def test_both_forms_of_the_normal_equations_agree_whatever_is_kept_in_memory(folder: Path, kept: int) -> None:
    maps, labels, splits = draw(N, MANY)
    X, rows = flat(maps), np.flatnonzero(splits == 0)
    table, standard = Table(open_stack(folder / f"{MANY}.zarr"), 2), Moments.of(X[rows]).standard()
    features = FeatureEquations(table, labels, 4, standard)
    features.add(rows, "")
    images = ImageEquations(table, labels, 4, standard, rows, 8 * X.shape[1] * kept)
    images.multiply("")
    strengths = [100.0, 1.0]
    one, other = features.solve(strengths), images.solve(strengths)
    np.testing.assert_allclose(one.weights, other.weights, atol=1e-10)
    np.testing.assert_allclose(one.intercept, other.intercept)
    for i, strength in enumerate(strengths):
        expected = RidgeClassifier(alpha=strength).fit(standard.apply(X[rows]), labels[rows])
        np.testing.assert_allclose(one.weights[i].T, expected.coef_, atol=1e-10)


def test_moments_of_blocks_are_those_of_all_and_a_constant_is_exactly_constant() -> None:
    values = np.random.default_rng(0).normal(size=(101, 5)).astype(np.float32) * 1e3 + 1e6
    values[:, 2] = 0.1
    joined = Moments.empty(5)
    for start in range(0, 101, 17):
        joined = joined.join(Moments.of(values[start : start + 17]))
    wide = values.astype(np.float64)
    np.testing.assert_allclose(joined.mean, wide.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(joined.squares / 101, wide.var(axis=0), rtol=1e-10)
    standard = joined.standard()
    assert standard.constant.tolist() == [False, False, True, False, False]
    assert not standard.apply(values)[:, 2].any()


def test_the_class_table_is_scikit_learns(folder: Path) -> None:
    maps, labels, splits = draw(N, FEW)
    found = probe(folder / f"{FEW}.zarr", strengths=[1e3])
    test = splits == 1
    answers = found.predict(flat(maps)[test])
    precision, recall, _, n = precision_recall_fscore_support(labels[test], answers, zero_division=0.0)
    assert [one["n"] for one in found.per_class] == n.tolist()
    assert [one["recall"] for one in found.per_class] == pytest.approx(recall.tolist())
    assert [one["precision"] or 0.0 for one in found.per_class] == pytest.approx(precision.tolist())
    for i, one in enumerate(found.per_class):
        others = [(labels[test] == i) & (answers == j) for j in range(4)]
        counts = [0 if j == i else int(other.sum()) for j, other in enumerate(others)]
        assert one["confused"] == max(counts)
        assert one["confused_with"] == found.classes[int(np.argmax(counts))]
    commonest = np.bincount(labels[~test]).argmax()
    assert found.baseline == pytest.approx((labels[test] == commonest).mean())


@pytest.mark.parametrize(("right", "n"), [(0, 10), (8, 10), (10, 10), (937, 1000)])
def test_the_interval_is_wilsons(right: int, n: int) -> None:
    z, p = 1.959963984540054, right / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert wilson(right, n) == pytest.approx((middle - half, middle + half), abs=1e-12)


# -- which images ------------------------------------------------------------------------------------------------------


def test_the_test_images_decide_nothing(tmp_path: Path) -> None:
    maps, labels, splits = draw(N, FEW)
    test = splits == 1
    spoilt = {name: np.where(test[:, None, None, None], np.float32(1e30), values) for name, values in maps.items()}
    write_stack(tmp_path / "clean.zarr", maps, labels, splits)
    write_stack(tmp_path / "spoilt.zarr", spoilt, np.where(test, (labels + 1) % 4, labels), splits)
    for classifier in ("ridge", "logistic"):
        clean, other = (probe(tmp_path / f"{name}.zarr", classifier=classifier) for name in ("clean", "spoilt"))
        assert clean.validation == other.validation
        assert clean.strength == other.strength
        np.testing.assert_array_equal(clean.linear.weights, other.linear.weights)
        np.testing.assert_array_equal(clean.linear.intercept, other.linear.intercept)
        assert clean.accuracy > other.accuracy + 0.1


def test_a_test_image_that_is_no_number_is_found_when_its_turn_comes_and_named(tmp_path: Path) -> None:
    maps, labels, splits = draw(N, FEW)
    image = int(np.flatnonzero(splits == 1)[3])
    maps["b/scale1"][image, 1, 0, 2] = np.nan
    stages: list[str] = []
    with pytest.raises(StoreError, match=rf"image {image}\.png has 1 feature that .* the first in b/scale1"):
        probe(write_stack(tmp_path / "a.zarr", maps, labels, splits), progress=lambda stage, *_: stages.append(stage))
    assert stages[-1] == "test"
    assert {"validation", "solving"} <= set(stages)
    assert "test" not in stages[: stages.index("validation")]
    maps["b/scale1"][image, 1, 0, 2] = 1.0
    image = int(np.flatnonzero(splits == 0)[50])
    maps["a/scale1"][image, 0, 0, :2] = np.inf
    with pytest.raises(StoreError, match=rf"image {image}\.png has 2 features .* the first in a/scale1"):
        probe(write_stack(tmp_path / "b.zarr", maps, labels, splits))


def test_images_without_features_or_class_are_left_out_and_counted(tmp_path: Path) -> None:
    maps, labels, splits = draw(N, FEW)
    unlabelled, failed = np.arange(10, 17), [0, 5, 90]
    some = np.delete(np.arange(N), [*unlabelled, *failed])
    blank = labels.copy()
    blank[unlabelled] = -1
    whole = probe(write_stack(tmp_path / "a.zarr", maps, blank, splits, failed=failed))
    rest = {name: values[some] for name, values in maps.items()}
    less = probe(write_stack(tmp_path / "b.zarr", rest, labels[some], splits[some]))
    assert (whole.counts["unreadable"], whole.counts["unlabelled"]) == (3, 7)
    assert (whole.counts["train"], whole.counts["test"]) == (less.counts["train"], less.counts["test"])
    assert whole.counts["train"] + whole.counts["test"] == N - 10
    assert (whole.accuracy, whole.strength) == (less.accuracy, less.strength)
    np.testing.assert_allclose(whole.linear.weights, less.linear.weights, atol=1e-12)
    assert whole.counts["constant"] == 1


def test_the_validation_part_has_its_share_of_every_class_and_is_the_seeds() -> None:
    labels = np.repeat([0, 1, 2, 3], [50, 20, 2, 1])
    rows = np.arange(73)[::1]
    drawn = draw_validation(rows, labels, 0.2, 0)
    assert np.bincount(labels[drawn], minlength=4).tolist() == [10, 4, 1, 0]
    assert (np.diff(drawn) > 0).all()
    np.testing.assert_array_equal(drawn, draw_validation(rows, labels, 0.2, 0))
    assert drawn.tolist() != draw_validation(rows, labels, 0.2, 1).tolist()


def test_a_class_without_training_images_counts_as_wrong_and_is_told(tmp_path: Path) -> None:
    maps, labels, splits = draw(N, FEW)
    splits = np.where(labels == 1, 1, splits)
    found = probe(write_stack(tmp_path / "a.zarr", maps, labels, splits))
    assert found.classes == ("ant", "bee", "cat", "dog")
    assert found.per_class[1]["recall"] == 0.0
    assert found.per_class[1]["precision"] is None
    assert not found.confusion[:, 1].any()
    assert any("No training image is of bee:" in note for note in found.notes)
    assert found.known.tolist() == [0, 2, 3]


def test_a_best_strength_at_the_end_is_noted_only_where_its_neighbour_was_worse(tmp_path: Path) -> None:
    labels, splits = np.arange(80) % 4, (np.arange(80) % 5 // 4).astype(np.int8)
    apart: Maps = {"a/scale1": np.eye(4, dtype=np.float32)[labels][:, None, None]}
    easy = probe(write_stack(tmp_path / "easy.zarr", apart, labels, splits))
    assert {trial.accuracy for trial in easy.validation} == {1.0}
    assert not any("strength" in note for note in easy.notes)
    maps, labels, splits = draw(N, MANY)
    hard = probe(write_stack(tmp_path / "hard.zarr", maps, labels, splits), strengths=[1e5, 1e4, 1e2])
    assert hard.validation[0].accuracy > hard.validation[1].accuracy
    assert any("The largest strength tried was the best" in note for note in hard.notes)


def test_maps_and_branches_are_chosen_by_name(folder: Path) -> None:
    stack = open_stack(folder / f"{FEW}.zarr")
    by_map, by_branch = probe(stack, maps=["b/scale1"]), probe(stack, branches=["b"])
    assert by_map.maps == by_branch.maps == ("b/scale1",)
    assert by_map.counts["features"] == 6
    np.testing.assert_array_equal(by_map.linear.weights, by_branch.linear.weights)
    assert probe(stack, maps=["b/scale1", "a/scale1"]).counts["features"] == 18
    with pytest.raises(StoreError, match=r"has no map 'c/scale1'"):
        probe(stack, maps=["b/scale1", "c/scale1"])


# -- memory and threads ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("features", [FEW, MANY])
@pytest.mark.parametrize("classifier", ["ridge", "logistic"])
def test_threads_change_no_bit(folder: Path, features: int, classifier: Any) -> None:
    one, two = (probe(folder / f"{features}.zarr", classifier=classifier, threads=threads) for threads in (1, 2))
    assert one.validation == two.validation
    np.testing.assert_array_equal(one.linear.weights, two.linear.weights)
    np.testing.assert_array_equal(one.confusion, two.confusion)


def test_a_logistic_search_that_reads_the_store_at_each_step_finds_the_same(folder: Path) -> None:
    maps, labels, splits = draw(N, FEW)
    rows, table = np.flatnonzero(splits == 0), Table(open_stack(folder / f"{FEW}.zarr"), 2)
    standard = Moments.of(flat(maps)[rows]).standard()
    searches = [Search(table, rows, labels, 4, standard, memory) for memory in (0, 1 << 30)]
    assert [search.keeps for search in searches] == [False, True]
    found = [search.run(1.0, None, "") for search in searches]
    np.testing.assert_array_equal(found[0].parameters, found[1].parameters)
    assert (len(searches[0].kept), len(searches[1].kept)) == (0, len(searches[1].blocks))


def test_too_little_memory_is_told_before_any_work(folder: Path) -> None:
    stages: list[str] = []
    for classifier in ("ridge", "logistic"):
        with pytest.raises(PlanError, match=rf"--memory: {classifier} on .* takes .* Give it more --memory, or fewer"):
            probe(
                folder / f"{FEW}.zarr", classifier=classifier, memory_bytes=1 << 20,
                progress=lambda stage, *_: stages.append(stage),
            )  # fmt: skip
    assert not stages


MEASURED = """
import sys, resource
from pathlib import Path
import featpipe
limit = int(sys.argv[2])
found = featpipe.probe(sys.argv[1], classifier=sys.argv[3], strengths=[1e3], memory_bytes=limit, threads=2)
status = Path("/proc/self/status").read_text()
peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
print(peak, found.accuracy)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_the_memory_stays_within_what_is_given(tmp_path: Path) -> None:
    n, d = 60_000, 800
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, n)
    values = random.standard_normal((n, 1, 1, d), np.float32)
    values[..., :4] += labels[:, None, None, None] == np.arange(4)
    path = write_stack(
        tmp_path / "large.zarr", {"a/scale1": values}, labels, np.arange(n) % 5 == 0, shard=2048, chunk=256
    )
    limit = (320 + 290) << 20
    assert 3 * values.nbytes > limit - (100 << 20)  # as stored and in float64, all at once would not fit
    for classifier in ("ridge", "logistic"):
        command = [sys.executable, "-c", MEASURED, str(path), str(limit), classifier]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
        assert done.returncode == 0, done.stderr
        peak, accuracy = done.stdout.split()
        assert int(peak) < limit
        assert float(accuracy) > 0.4


def test_the_public_names_are_the_function_and_its_result(folder: Path) -> None:
    import featpipe

    found = featpipe.probe(folder / f"{FEW}.zarr", strengths=[10.0])
    assert isinstance(found, featpipe.ProbeResult)
    assert isinstance(found, ProbeResult)
    assert isinstance(featpipe.open(folder / f"{FEW}.zarr"), Stack)
    assert featpipe.probe is probe
