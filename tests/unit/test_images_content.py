"""The content of images: the same however it is found out, and never more of an array in memory than a piece."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featpipe.images import content
from featpipe.images.arrays import open_npy
from featpipe.images.content import array_image_content, content_of, samples_content
from featpipe.images.reader import open_reader
from featpipe.images.scan import scan
from featpipe.spec.pipeline import Images


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(("axes", "shape"), [("nyx", (3, 20, 9)), ("nyxc", (2, 20, 9, 3)), ("yx", (30, 7))])
def test_an_image_of_an_array_has_the_content_of_its_samples(
    axes: str, shape: tuple[int, ...], dtype: str, order: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "_PIECE", 100)
    whole = np.asarray(np.random.default_rng(0).integers(0, 256, shape), dtype, order=order)
    np.save(tmp_path / "a.npy", whole)
    images = Images(path=str(tmp_path / "a.npy"), axes=axes, color="keep")
    collection = scan(images)
    read: list[int] = []

    class Watched:
        """An array that notes how much is read of it at once."""

        def __init__(self) -> None:
            self.array = open_npy(tmp_path / "a.npy")
            self.shape, self.dtype = self.array.shape, self.array.dtype

        def __getitem__(self, key: Any) -> Any:
            found = self.array[key]
            read.append(found.nbytes)
            return found

    for row in range(len(collection)):
        one = whole[row] if axes.startswith("n") else whole
        want = content_of(one.tobytes())
        assert array_image_content(Watched(), collection, row) == want
        assert samples_content(one) == want
        noted: dict[int, str] = {}
        open_reader(images, collection).read_image(row, noted)
        assert noted == {row: want}
    assert max(read) <= max(100, one[0].nbytes)
