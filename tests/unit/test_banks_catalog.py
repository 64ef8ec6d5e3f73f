"""Labels, refusals, kernels from files, and the list of banks."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import TypeAdapter

from featpipe.errors import SpecError
from featpipe.kernels.bank import Bank, feature_name
from featpipe.kernels.catalog import build_bank, find_bank, list_banks
from featpipe.kernels.files import read_kernels
from featpipe.spec.banks import BANKS, BankField, BankSpec, FileBank, InlineBank
from featpipe.spec.base import FROM_FILE
from featpipe.spec.fits import FITS, FitBank, LearnedBank
from featpipe.spec.load import parse_pipeline

PLACE = ("features", "t", "layers", 0, "convolve")
TOO_LARGE = "and may take 256. Use smaller kernels on a coarser scale (scales: [8]), or fewer."
CROSS = np.array([[0.0, 1, 0], [1, 1, 1], [0, 1, 0]])


def build(names: list[str] | None = None, **bank: Any) -> Bank:
    spec: BankSpec = TypeAdapter(BankField).validate_python(bank, context=FROM_FILE)
    return build_bank(spec, 1, names, "features.t.layers[0].convolve", PLACE)


def labels_of(**bank: Any) -> list[dict[str, str | int | float]]:
    return [kernel.labels for kernel in build(**bank).kernels]


def refusal(**bank: Any) -> tuple[str, tuple[str | int, ...]]:
    with pytest.raises(SpecError) as caught:
        build(**bank)
    (problem,) = caught.value.problems
    return str(problem).removeprefix("features.t.layers[0].convolve."), problem.location


def test_every_bank_tells_all_its_labels() -> None:
    assert labels_of(bank="laplacian") == [{"bank": "laplacian"}]
    assert labels_of(bank="scharr") == [{"bank": "scharr", "component": part} for part in "yx"]
    assert labels_of(bank="box", size=5) == [{"bank": "box", "size": 5}]
    assert labels_of(bank="binomial") == [{"bank": "binomial", "size": 5}]
    assert labels_of(bank="gaussian", sigmas=[2, 1]) == [{"bank": "gaussian", "sigma": s} for s in (2.0, 1.0)]
    assert labels_of(bank="log", sigmas=3) == [{"bank": "log", "sigma": 3.0}]
    assert labels_of(bank="dog", sigmas=1, ratio=2) == [{"bank": "dog", "sigma": 1.0, "ratio": 2.0}]
    assert labels_of(bank="gaussian-gradient", sigmas=[1, 2]) == [
        {"bank": "gaussian-gradient", "sigma": sigma, "component": part} for sigma in (1.0, 2.0) for part in "yx"
    ]
    assert labels_of(bank="gabor", frequencies=[0.2, 0.4], orientations=4) == [
        {"bank": "gabor", "frequency": frequency, "orientation": orientation, "component": part}
        for frequency in (0.2, 0.4)
        for orientation in (0.0, 45.0, 90.0, 135.0)
        for part in ("even", "odd")
    ]
    assert labels_of(kernels=[CROSS.tolist()] * 2) == [{"bank": "kernels", "kernel": k} for k in "01"]
    assert labels_of(names=["a", "b"], kernels=[CROSS.tolist()] * 2) == [{"bank": "kernels", "kernel": k} for k in "ab"]


def test_angles_may_be_given_in_degrees() -> None:
    labels = labels_of(bank="gabor", frequencies=0.2, orientations=[10, 100])
    assert [one["orientation"] for one in labels] == [10, 10, 100, 100]


def test_inline_kernels_come_as_written() -> None:
    spanning = [[[[1, 2], [3, 4], [5, 6]]]]
    assert np.array_equal(build(kernels=[CROSS.tolist()]).kernels[0].weights, CROSS)
    assert not build(kernels=[CROSS.tolist()]).spans_channels
    bank = build(kernels=spanning)
    assert bank.spans_channels
    assert bank.kernels[0].weights.shape == (1, 3, 2)
    assert np.array_equal(bank.kernels[0].weights, spanning[0])


@pytest.mark.parametrize(
    ("bank", "message", "key"),
    [
        ({"bank": "log", "sigmas": [1, 2, 1]}, "sigmas: gives 1 twice. Give each value once.", "sigmas"),
        (
            {"bank": "gabor", "frequencies": [0.1, 0.1]},
            "frequencies: gives 0.1 twice. Give each value once.",
            "frequencies",
        ),
        (
            {"bank": "gabor", "frequencies": 0.1, "orientations": [0, 45, 0]},
            "orientations: gives 0 twice. Give each value once.",
            "orientations",
        ),
        (
            {"bank": "gaussian-gradient", "sigmas": [1, 0.1]},
            "sigmas: 0.1 is so small that with truncate 4 the kernel is 0 everywhere. Use at least 0.3.",
            "sigmas",
        ),
        (
            {"bank": "gaussian", "sigmas": [1, 1000]},
            f"sigmas: with 1000 (8001×8001 taps) the bank takes 488 MiB, {TOO_LARGE}",
            "sigmas",
        ),
        (
            {"bank": "box", "size": 100000},
            f"size: with 100000 (100000×100000 taps) the bank takes 76294 MiB, {TOO_LARGE}",
            "size",
        ),
        (
            {"kernels": [[[1e39]]]},
            "kernels: has 1e+39, beyond float32, in which maps are computed. Scale it down.",
            "kernels",
        ),
        ({"kernels": [[[1]]], "names": ["a", "b"]}, "names: gives 2 for 1 kernels. Give one each.", "names"),
        (
            {"kernels": [[[1]], [[2]]], "names": ["a", "a"]},
            "names: has the same name twice. Give each kernel its own.",
            "names",
        ),
        ({"bank": "sobel", "names": ["a", "b"]}, "names: bank sobel names its kernels itself. Remove names.", "names"),
    ],
)
def test_a_wrong_bank_names_the_key_and_the_value(bank: dict[str, Any], message: str, key: str) -> None:
    assert refusal(**bank) == (message, (*PLACE, key))


@pytest.mark.parametrize("name", ["gaussian-gradient", "log", "dog"])
@pytest.mark.parametrize(
    "given",
    [
        {"sigmas": 1e-300},
        {"sigmas": 1e-200, "truncate": 1e200},
        {"sigmas": 1, "truncate": 0.1},
        {"sigmas": 0.01, "truncate": 60},
    ],
)
def test_a_derivative_that_falls_between_the_samples_is_refused(name: str, given: dict[str, float]) -> None:
    assert "the kernel is 0 everywhere" in refusal(bank=name, **given)[0]


@pytest.mark.parametrize(
    "bank",
    [
        {"bank": "gaussian", "sigmas": 1e300, "truncate": 1e300},
        {"bank": "dog", "sigmas": 1e300, "ratio": 1e300},
        {"bank": "gabor", "frequencies": 1e-300},
        {"bank": "gabor", "frequencies": 0.1, "bandwidth": 1e-300},
        {"bank": "gabor", "frequencies": 0.1, "n_stds": 1e300},
        {"bank": "gabor", "frequencies": 0.002, "orientations": 2**31 - 1},
        {"bank": "gabor", "frequencies": 0.1, "orientations": 2**31 - 1},
        {"bank": "binomial", "size": 2**31 - 1},
        {"bank": {"fit": "random", "kernels": 2**31 - 1, "size": 2**31 - 1}},
    ],
)
def test_no_bank_can_ask_for_more_memory_than_it_may_have(bank: dict[str, Any]) -> None:
    assert "and may take 256." in refusal(**bank)[0]


def test_extreme_but_possible_gabors_stay_finite() -> None:
    for kernel in build(bank="gabor", frequencies=0.5, orientations=3, bandwidth=1e9).kernels:
        assert np.isfinite(kernel.weights).all()


def test_without_a_location_an_error_names_only_the_key() -> None:
    with pytest.raises(SpecError) as caught:
        build_bank(InlineBank(name="inline", values=[[[1.0]]]), 1, ["a", "b"])
    (problem,) = caught.value.problems
    assert (problem.where, problem.location) == ("convolve.names", ())


# Files


@pytest.mark.parametrize("dtype", ["f8", ">f4", "f2", "i2", "u1"])
def test_kernels_are_read_from_npy_in_any_real_type(tmp_path: Path, dtype: str) -> None:
    kernels = np.asfortranarray(np.arange(24).reshape(2, 4, 3).astype(dtype))
    np.save(tmp_path / "k.npy", kernels)
    read = read_kernels(str(tmp_path / "k.npy"))
    assert read.dtype == np.float64
    assert np.array_equal(read, np.arange(24.0).reshape(2, 4, 3))


def test_an_array_of_two_dimensions_is_one_kernel(tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", CROSS)
    assert np.array_equal(read_kernels(str(tmp_path / "k.npy")), CROSS[None])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_kernels_are_read_from_an_npz_by_name(tmp_path: Path, save: Any) -> None:
    edges = np.random.default_rng(0).random((2, 3, 3, 4))
    save(tmp_path / "k.npz", edges=edges, cross=CROSS)
    assert np.array_equal(read_kernels(f"{tmp_path}/k.npz:edges"), edges)
    bank = build(names=["one", "two"], kernels=f"{tmp_path}/k.npz:edges")
    assert bank.spans_channels
    assert [feature_name(kernel.labels) for kernel in bank.kernels] == ["kernels kernel=one", "kernels kernel=two"]


WRONG_ARRAYS: dict[str, tuple[Any, str]] = {
    "objects": (np.array([[{}]], dtype=object), "holds no numbers but Python objects. Save an array of floats."),
    "text": (np.array([["a"]]), "holds no numbers but <U1. Save an array of floats."),
    "truth": (np.array([[True]]), "holds no numbers but bool. Save an array of floats."),
    "structured": (np.zeros((1, 1), [("é", "f4")]), "holds no numbers but [('é', '<f4')]. Save an array of floats."),
    "complex": (
        np.ones((3, 3), complex),
        "holds complex numbers. Save the real and the imaginary parts as kernels of their own.",
    ),
    "nan": (
        np.array([[1, np.nan], [np.inf, 2]]),
        "2 of 4 values are not finite, first at [0, 1]. Save finite numbers.",
    ),
    "empty": (np.zeros((0, 3, 3)), "is empty, 0×3×3. Save one kernel or more."),
    "a row": (np.ones(3), "has 1 dimensions. Save (k, y, x) or (k, y, x, c): kernels, rows, columns, channels."),
    "volumes": (
        np.ones((1, 1, 1, 1, 1)),
        "has 5 dimensions. Save (k, y, x) or (k, y, x, c): kernels, rows, columns, channels.",
    ),
}


@pytest.mark.parametrize("case", WRONG_ARRAYS)
@pytest.mark.filterwarnings("ignore:Stored array in format 3.0")
def test_a_file_that_holds_no_kernels_says_what_it_holds(tmp_path: Path, case: str) -> None:
    array, message = WRONG_ARRAYS[case]
    path = tmp_path / "k.npy"
    np.save(path, array)
    assert refusal(kernels=str(path)) == (f"kernels: {path}: {message}", (*PLACE, "kernels"))
    np.savez(tmp_path / "k.npz", a=array)
    assert refusal(kernels=f"{tmp_path}/k.npz:a")[0] == f"kernels: {tmp_path}/k.npz:a: {message}"


def test_a_key_that_is_not_there_tells_the_keys_there_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "k.npz", edges=CROSS, lines=CROSS)
    message = f"kernels: {tmp_path}/k.npz:edge: there is no array 'edge' in it. (arrays: edges, lines)"
    assert refusal(kernels=f"{tmp_path}/k.npz:edge")[0] == message
    change = "is an .npz archive and does not say which of its arrays. Write it as FILE.npz:NAME."
    assert refusal(kernels=f"{tmp_path}/k.npz")[0] == f"kernels: {tmp_path}/k.npz: {change}"


def test_too_large_an_array_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "k.npy"
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (10**6, 99, 99)})
    message = f"kernels: {path}: 1000000×99×99 values take 74776 MiB, 256 at most. Save fewer or smaller kernels."
    assert refusal(kernels=str(path))[0] == message


def test_files_that_cannot_be_read_say_so(tmp_path: Path) -> None:
    np.save(tmp_path / "cut.npy", np.ones((4, 4)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-8])
    (tmp_path / "text.npy").write_text("1 2 3")
    (tmp_path / "text.npz").write_text("1 2 3")
    (tmp_path / "folder.npy").mkdir()
    np.savez(tmp_path / "bad.npz", a=np.ones((9, 9)))
    content = bytearray((tmp_path / "bad.npz").read_bytes())
    content[250:260] = b"0123456789"
    (tmp_path / "bad.npz").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("a.npy", "no array")
    for name in ("cut.npy", "text.npy", "text.npz:a", "folder.npy", "bad.npz:a", "other.npz:a"):
        message, _ = refusal(kernels=f"{tmp_path}/{name}")
        assert message.startswith(f"kernels: {tmp_path}/{name}: cannot be read ("), message
        assert message.endswith("Write it with numpy.save or numpy.savez.")
    missing = FileBank(name="file", file=f"{tmp_path}/none.npy")
    with pytest.raises(SpecError, match="there is no such file"):
        build_bank(missing, 1)


# The list


def test_the_list_holds_every_bank_with_an_example_that_runs() -> None:
    entries = list_banks()
    assert [entry.name for entry in entries] == [*BANKS, *FITS, "learned", "random", "inline", "file"]
    for entry in entries:
        layers = yaml.safe_load(entry.example)
        if entry.name != "file":
            parsed = parse_pipeline({"images": {"path": "x"}, "features": {"t": {"layers": layers}}})
            convolve = parsed.features["t"].layers[0].convolve  # type: ignore[union-attr]
            assert convolve.source == entry.spec or entry.name == "learned"  # whose path is absolute then
            if isinstance(entry.spec, (FitBank, LearnedBank)):
                continue  # it has no kernels yet
            bank = build_bank(entry.spec, 3, convolve.names)
            names = [feature_name(kernel.labels) for kernel in bank.kernels]
            assert len(set(names)) == len(names)


def test_every_entry_is_described_and_every_parameter_explained() -> None:
    for entry in list_banks():
        assert entry.summary.endswith("."), entry
        assert "`" not in entry.summary
        assert entry.source.endswith(".") or entry.name in ("inline", "file", "learned"), entry
        for parameter in entry.parameters:
            assert parameter.description.endswith("."), parameter
            assert parameter.type


def test_an_entry_tells_types_and_defaults() -> None:
    told = {p.name: (p.type, p.default) for p in find_bank("gabor").parameters}
    assert told == {
        "frequencies": ("number > 0 and ≤ 0.5, or a list of them", ""),
        "orientations": ("whole number ≥ 1 or list of numbers", "8"),
        "bandwidth": ("number > 0", "1"),
        "n_stds": ("number > 0", "3"),
    }


def test_an_unknown_bank_is_met_with_the_nearest() -> None:
    with pytest.raises(SpecError, match=r"there is no bank 'gabbor'\. Did you mean gabor\?"):
        find_bank("gabbor")
