"""The OME-XML of an OME-TIFF: how many images, planes and channels there are, and which page holds which channel.

Read as a stream, for it may be long, and no entity is ever expanded.
"""

from __future__ import annotations

from typing import NamedTuple
from xml.parsers import expat

from featpipe.images.refusal import Refused

_MOST = 4096


class _Placed(NamedTuple):
    """One ``TiffData``: from which channel, on which page, and how many planes; None for all."""

    channel: int
    page: int
    planes: int | None


class _Described:
    """What the elements tell, as the parser comes by them."""

    def __init__(self) -> None:
        self.images = 0
        self.sizes: dict[str, int] = {}
        self.samples: list[int] = []
        self.placed: list[_Placed] = []
        self.own = ""
        self.others: set[str] = set()
        self.companion = False
        self._in_uuid = False

    def start(self, name: str, values: dict[str, str]) -> None:
        match name.rpartition(":")[2]:
            case "OME":
                self.own = values.get("UUID", "")
            case "BinaryOnly":
                self.companion = True
            case "Image":
                self.images += 1
            case "Pixels" if not self.sizes:
                self.sizes = {axis: int(values.get(f"Size{axis}", 1)) for axis in "ZCT"}
            case "Channel" if self.images == 1:
                self.samples.append(int(values.get("SamplesPerPixel", 1)))
            case "TiffData" if self.images == 1:
                planes = values.get("PlaneCount", values.get("NumPlanes", "1" if "IFD" in values else None))
                count = int(planes or 0) or None
                self.placed.append(_Placed(int(values.get("FirstC", 0)), int(values.get("IFD", 0)), count))
            case "UUID":
                self._in_uuid = True
        if max(len(self.samples), len(self.placed), len(self.others)) > _MOST:
            raise Refused(f"not a readable OME-TIFF (its OME-XML tells of more than {_MOST:,} planes)")

    def text(self, data: str) -> None:
        if self._in_uuid and data.strip():
            self.others.add(data.strip())

    def end(self, name: str) -> None:
        if name.rpartition(":")[2] == "UUID":
            self._in_uuid = False


def channel_pages(xml: str, pages: int) -> list[int] | None:
    """Return which page holds each channel, or None where the XML is damaged.

    Parameters
    ----------
    xml : str
    pages : int
        Full-size pages in the file.

    Raises
    ------
    Refused
        If there is more than one plane of one image, or some of it lies in other files.
    """
    described = _Described()
    try:
        _parse(xml, described)
    except (expat.ExpatError, ValueError):
        return None
    if described.companion or len(described.others | {described.own} - {""}) > 1:
        raise Refused("is an OME-TIFF of several files; it may have one. Convert it to one file (bfconvert)")
    if described.images > 1:
        raise Refused(f"is an OME-TIFF of {described.images} images; it may have one. Split it (bfconvert -series 0)")
    depth, times = described.sizes.get("Z", 1), described.sizes.get("T", 1)
    if depth > 1 or times > 1:
        change = "Split it (bfconvert -z 0 -timepoint 0), or make it an .npy stack"
        raise Refused(f"is an OME-TIFF of {depth} planes (z) and {times} times (t); one of each is read. {change}")
    return _place(described, pages)


def _place(described: _Described, pages: int) -> list[int] | None:
    if pages == 1:
        return [described.placed[0].page if described.placed else 0]
    samples = max(described.samples, default=1)
    if samples > 1:
        what = f"is an OME-TIFF of {pages} pages of {samples} samples"
        raise Refused(f"{what}; channels are read as samples or as pages. Split it (bfconvert -channel 0)")
    channels = described.sizes.get("C", 1)
    if channels != pages:
        raise Refused(f"has {pages} pages, but its OME-XML tells of {channels} channels. Split it")
    places: dict[int, int] = {}
    for placed in described.placed or [_Placed(0, 0, None)]:
        planes = min(placed.planes or channels, channels)
        places.update({placed.channel + i: placed.page + i for i in range(planes)})
    found = [places.get(channel, -1) for channel in range(channels)]
    if -1 in found or len(set(found)) < channels:
        raise Refused("not a readable OME-TIFF (its OME-XML does not say where each channel is)")
    return found


def _parse(xml: str, described: _Described) -> None:
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = described.start
    parser.EndElementHandler = described.end
    parser.CharacterDataHandler = described.text
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.Parse(xml.encode(), True)


def _refuse_doctype(*_: object) -> None:
    raise Refused("not a readable OME-TIFF (its OME-XML declares entities)")
