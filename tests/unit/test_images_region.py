"""``images.region`` of every kind of source, and OME-Zarr."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

import featpipe
from featpipe.errors import SpecError
from featpipe.geometry.axis import Span
from featpipe.run import default_resources, plan_run, run_plan
from featpipe.run.ingest import ingest
from featpipe.spec.load import parse_pipeline
from featpipe.spec.pipeline import Images
from tests.unit.reading import complaint, reader

RNG = np.random.default_rng(3)
IMAGE = RNG.integers(0, 256, (90, 110, 3), np.uint8)
REGION = {"y": [10, 60], "x": [31, 109]}
CUT = IMAGE[10:60, 31:109]


def source(folder: Path, kind: str) -> Path:
    """Write IMAGE in one of the ways it can be read."""
    match kind:
        case "npy":
            np.save(folder / "a.npy", IMAGE[None])
            return folder / "a.npy"
        case "zarr":
            zarr.create_array(str(folder / "a.zarr"), shape=(1, *IMAGE.shape), dtype="u1", chunks=(1, 20, 30, 3))[:] = (
                IMAGE[None]
            )
            return folder / "a.zarr"
        case "png":
            Image.fromarray(IMAGE).save(folder / "a.png")
        case "tif":
            tifffile.imwrite(folder / "a.tif", IMAGE, photometric="rgb", tile=(32, 16), compression="zlib")
    return folder / f"a.{kind}"


@pytest.mark.parametrize("kind", ["npy", "zarr", "png", "tif"])
@pytest.mark.parametrize("options", [{}, {"color": "gray"}, {"size": [9, 9]}, {"size": [20, 20], "color": "gray"}])
def test_a_region_is_read_as_if_it_were_the_image(tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    np.save(tmp_path / "cut.npy", CUT[None])
    expected = reader(tmp_path / "cut.npy", **options)
    found = reader(source(tmp_path, kind), region=REGION, **options)
    assert found.collection.shape == expected.collection.shape
    assert found.collection.regions == (kind != "png" and "size" not in options)
    assert np.array_equal(found.read_image(0), expected.read_image(0))
    assert np.array_equal(found.read(0, Span(2, 8), Span(1, 9)), expected.read(0, Span(2, 8), Span(1, 9)))


def test_a_region_of_one_axis_leaves_the_other_whole(tmp_path: Path) -> None:
    rows = reader(source(tmp_path, "tif"), region={"y": [3, 4]}, values="raw")
    assert np.array_equal(rows.read_image(0), IMAGE[3:4])


def test_a_region_outside_of_an_image_is_told_by_name(tmp_path: Path) -> None:
    far = {"y": [10, 91]}
    where = "is 90×110 pixels, and images.region is not within it (rows 10 to 91, columns 0 to 110)"
    assert where in complaint(source(tmp_path, "npy"), region=far)
    assert f"a.png: {where}" in complaint(source(tmp_path, "png"), region=far)
    Image.fromarray(np.vstack([IMAGE, IMAGE])).save(tmp_path / "b.png")
    mixed = reader(tmp_path / "*.png", region=far).collection
    assert mixed.unreadable == {0: where}
    assert mixed.heights.tolist() == [0, 81]


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ({"y": [5, 5]}, "images.region.y: must start before it stops, got [5, 5]"),
        ({"y": [5]}, "images.region.y: must be [start, stop] in pixels, got a list of 1"),
        ({"x": [-1, 5]}, "images.region.x[0]: must be at least 0, got -1"),
        ({}, "images.region: must give y or x"),
        ([0, 0, 5, 5], "images.region: must be a mapping"),
        ({"z": [0, 5]}, "images.region.z: unknown key"),
    ],
)
def test_a_region_that_is_none_is_refused(region: Any, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_pipeline({"images": {"path": "a", "region": region}, "features": {"a": {"layers": ["modulus"]}}})
    assert words in str(caught.value)


def test_the_stores_coordinates_count_from_the_whole_images_corner(tmp_path: Path) -> None:
    layers = [{"convolve": {"bank": "sobel", "padding": "reflect"}}, "modulus", {"pool": {"max": 2}}]
    stacks: dict[str, Any] = {}
    for name, options in (("region", {"region": REGION}), ("resized", {"region": REGION, "size": [50, 78]})):
        data = {
            "images": {"path": str(source(tmp_path, "tif")), **options},
            "features": {"a": {"layers": layers}},
            "store": {"path": str(tmp_path / f"{name}.zarr")},
        }
        run_plan(plan_run(parse_pipeline(data), default_resources()))
        stacks[name] = zarr.open_group(str(tmp_path / f"{name}.zarr"))["a/scale1"]
    np.testing.assert_array_equal(stacks["region"]["y"][:], 10 + np.arange(0.5, 50, 2))
    np.testing.assert_array_equal(stacks["region"]["x"][:], 31 + np.arange(0.5, 78, 2))
    np.testing.assert_array_equal(stacks["resized"]["y"][:], np.arange(0.5, 50, 2))
    expected = featpipe.extract(CUT[None], {"features": {"a": {"layers": layers}}})["a/scale1"]
    np.testing.assert_array_equal(stacks["region"]["features"][:], expected)
    extracted = featpipe.extract(IMAGE[None], {**data, "images": {"path": "a", "region": REGION}})["a/scale1"]
    np.testing.assert_array_equal(extracted, expected)


def test_what_was_cut_on_ingestion_is_not_cut_again(tmp_path: Path) -> None:
    ingest(Images(path=str(source(tmp_path, "tif")), region=REGION), tmp_path / "in.zarr")
    assert np.array_equal(reader(tmp_path / "in.zarr", values="raw").read_image(0), CUT)
    assert "in.zarr was cut when it was ingested. Leave images.region out." in complaint(
        tmp_path / "in.zarr", region=REGION
    )


# -- OME-Zarr -------------------------------------------------------------------------------------------------------


def ome(path: Path, version: str, axes: str, shape: tuple[int, ...]) -> np.ndarray:
    """Write an OME-Zarr image of two levels, and return the first."""
    values = RNG.integers(0, 1000, shape).astype(np.uint16)
    group = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    chunks = tuple(min(n, 16) for n in shape)
    for level, pixels in (("0", values), ("1", values[..., ::2, ::2])):
        group.create_array(level, shape=pixels.shape, dtype="u2", chunks=chunks)[:] = pixels
    types = {"t": "time", "c": "channel"}
    about = {
        "axes": [{"name": axis, "type": types.get(axis, "space")} for axis in axes],
        "datasets": [{"path": "0"}, {"path": "1"}],
    }
    multiscales = [about | {"version": "0.4"}] if version == "0.4" else [about]
    group.attrs.update({"multiscales": multiscales} if version == "0.4" else {"ome": {"multiscales": multiscales}})
    return values


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["yx", "cyx", "tczyx"])
def test_an_ome_zarr_is_its_largest_level(tmp_path: Path, version: str, axes: str) -> None:
    shape = {"yx": (50, 60), "cyx": (4, 50, 60), "tczyx": (1, 4, 1, 50, 60)}[axes]
    values = ome(tmp_path / "a.zarr", version, axes, shape)
    expected = np.moveaxis(values.reshape(-1, 50, 60), 0, -1)
    found = reader(tmp_path / "a.zarr", values="raw")
    assert found.collection.regions
    assert np.array_equal(found.read_image(0), expected)
    assert np.array_equal(found.read(0, Span(3, 40), Span(20, 33)), expected[3:40, 20:33])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_ome_zarr_as_bioformats2raw_writes_it_is_its_one_image(tmp_path: Path, version: str) -> None:
    outer = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=2 if version == "0.4" else 3)
    layout = {"bioformats2raw.layout": 3}
    outer.attrs.update(layout if version == "0.4" else {"ome": layout})
    values = ome(tmp_path / "a.zarr" / "0", version, "cyx", (2, 30, 40))
    assert np.array_equal(reader(tmp_path / "a.zarr", values="raw").read_image(0), np.moveaxis(values, 0, -1))
    ome(tmp_path / "a.zarr" / "1", version, "cyx", (2, 30, 40))
    assert f"2 images, one is read. Give one of them: {tmp_path / 'a.zarr' / '0'}." in complaint(tmp_path / "a.zarr")
    assert reader(tmp_path / "a.zarr" / "1").collection.shape == (30, 40)


def test_an_ome_zarr_of_several_planes_or_from_elsewhere_is_refused(tmp_path: Path) -> None:
    ome(tmp_path / "a.zarr", "0.5", "czyx", (2, 3, 30, 40))
    assert "of 3 planes along z, one is read. Save the plane" in complaint(tmp_path / "a.zarr")
    ome(tmp_path / "a.zarr", "0.5", "cyx", (2, 30, 40))
    assert "tells its axes itself" in complaint(tmp_path / "a.zarr", axes="cyx")
    group = zarr.open_group(str(tmp_path / "a.zarr"))
    for path in ("../b.zarr", "/b.zarr"):
        group.attrs["ome"] = {"multiscales": [{"axes": [{"name": "y"}, {"name": "x"}], "datasets": [{"path": path}]}]}
        assert "lies outside of it" in complaint(tmp_path / "a.zarr")
    group.attrs["ome"] = {"multiscales": [{"axes": 3}]}
    assert "metadata are damaged" in complaint(tmp_path / "a.zarr")


def test_plain_arrays_may_have_their_channels_first(tmp_path: Path) -> None:
    stack = RNG.integers(0, 256, (3, 4, 20, 30), np.uint8)
    np.save(tmp_path / "a.npy", stack)
    zarr.create_array(
        str(tmp_path / "a.zarr"), shape=stack.shape, dtype="u1", chunks=(2, 4, 20, 30), dimension_names=list("ncyx")
    )[:] = stack
    for found in (reader(tmp_path / "a.npy", axes="ncyx", values="raw"), reader(tmp_path / "a.zarr", values="raw")):
        assert len(found.collection) == 3
        assert np.array_equal(found.read_image(1), np.moveaxis(stack[1], 0, -1))
        assert np.array_equal(found.read(2, Span(1, 9), Span(3, 5)), np.moveaxis(stack[2], 0, -1)[1:9, 3:5])
