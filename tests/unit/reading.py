"""Readers of images at hand, and what they complain of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from featpipe.errors import SourceError
from featpipe.images.reader import Reader, open_reader
from featpipe.images.scan import scan
from featpipe.spec.pipeline import Images


def reader(path: Path, **options: Any) -> Reader:
    images = Images(path=str(path), **options)
    return open_reader(images, scan(images))


def complaint(path: Path, **options: Any) -> str:
    with pytest.raises(SourceError) as caught:
        reader(path, **options)
    return str(caught.value)
