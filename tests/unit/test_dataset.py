"""The dataset that torch's DataLoader takes, against the matrix that it is the rows of."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featpipe.errors import StoreError
from featpipe.stack import Stack, open_stack
from tests.unit.store_examples import make_own, make_stacked


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    path = tmp_path_factory.mktemp("dataset") / "a.zarr"
    make_stacked(path)
    return open_stack(path)


@pytest.mark.parametrize("split", [None, "train", "test"])
def test_a_dataset_is_the_rows_of_xy(stack: Stack, split: str | None) -> None:
    (X, y), dataset = stack.xy(split), stack.dataset(split)
    assert len(dataset) == len(X)
    for i, (features, label) in enumerate(dataset):
        assert (str(features.dtype), type(label)) == ("float32", int)
        np.testing.assert_array_equal(features, X[i])
        assert label == y[i]
    np.testing.assert_array_equal(dataset[-1][0], X[-1])


def test_a_batch_comes_in_the_order_asked_for(stack: Stack) -> None:
    (X, y), dataset = stack.xy(), stack.dataset()
    wanted = [4, 0, 4, -1]
    found = dataset.__getitems__(wanted)
    np.testing.assert_array_equal([features for features, _ in found], X[wanted])
    assert [label for _, label in found] == y[wanted].tolist()
    found[0][0][:] = 0
    np.testing.assert_array_equal(found[2][0], X[4])
    assert dataset.__getitems__([]) == []


def test_a_map_keeps_its_shape(stack: Stack) -> None:
    features, _ = stack.dataset("train", map="texture/scale1")[1]
    np.testing.assert_array_equal(features, stack["texture/scale1"][stack.rows("train")[1]])
    chosen = stack.select(frequency=0.1)
    np.testing.assert_array_equal(chosen.dataset()[3][0], chosen.xy()[0][3])


def test_what_is_not_there_is_refused(stack: Stack, tmp_path: Path) -> None:
    for index in (len(stack.dataset()), -len(stack.dataset()) - 1):
        with pytest.raises(IndexError, match=f"6 images, index {index}"):
            stack.dataset()[index]
    with pytest.raises(StoreError, match="Did you mean train"):
        stack.dataset("trian")
    with pytest.raises(StoreError, match="no map 'texture/scale3'"):
        stack.dataset(map="texture/scale3")
    make_own(tmp_path / "own.zarr")
    with pytest.raises(StoreError, match="no map of one shape"):
        open_stack(tmp_path / "own.zarr").dataset()


def read_all(dataset: Any, results: Any) -> None:
    results.put([features for features, _ in dataset])


@pytest.mark.parametrize(
    "method",
    [
        "spawn",
        # This process has threads; whether its locks are free is what a fork leaves to chance, and Python warns of
        pytest.param("fork", marks=pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")),
    ],
)
def test_processes_open_the_store_themselves(stack: Stack, method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    context: Any = multiprocessing.get_context(method)
    dataset, results = stack.dataset("train"), context.Queue()
    assert dataset[0]
    process = context.Process(target=read_all, args=(dataset, results))
    process.start()
    found = results.get(timeout=60)
    process.join(60)
    assert process.exitcode == 0
    np.testing.assert_array_equal(found, stack.xy("train")[0])


def test_nothing_open_is_pickled(stack: Stack) -> None:
    dataset = stack.dataset()
    assert dataset[0]
    copied = pickle.loads(pickle.dumps(dataset))
    assert len(pickle.dumps(dataset)) < 4096
    np.testing.assert_array_equal(copied[2][0], dataset[2][0])
