"""Images that are only looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featpipe.errors import ImageError
from featpipe.geometry.axis import Span
from featpipe.images.glance import Glance
from featpipe.spec.pipeline import Images


def test_what_is_too_large_for_a_glance_is_not_blamed_on_the_pipeline(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(tmp_path / "a.png")
    part = Span(0, 8), Span(0, 8)
    glance = Glance(Images(path=str(tmp_path)), most_pixels=1000)
    for look in (lambda: glance.read("a.png"), lambda: glance.read("a.png", part), lambda: glance.look("a.png")):
        with pytest.raises(ImageError, match="has 40×50 pixels, too many to be decoded only for a look"):
            look()
    with pytest.raises(ImageError, match=r"more than images\.max_pixels = 500"):
        Glance(Images(path=str(tmp_path), max_pixels=500), most_pixels=1000).read("a.png")
