"""The image that is looked at: uploaded, drawn, or a file; read as a run would read it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

from PIL import Image

from featpipe.errors import ImageError, Problem, SourceError
from featpipe.explore import examples
from featpipe.explore.maps import image_key
from featpipe.images.header import sniff
from featpipe.replacing import replacing
from featpipe.spec.pipeline import Images
from featpipe.trace import Example, read_example, single

MOST_UPLOADED = 64 << 20
"""Bytes of an uploaded file."""
MOST_PIXELS = 100_000_000
"""Of an image file that is decoded."""
PARTS = (256, 512, 768, 1024)
"""Longest edges, in pixels, to which an image can be cut."""
SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif", "BMP": ".bmp", "WebP": ".webp"}


@dataclass
class Subject:
    """A file, and the pixels that were last read of it."""

    file: Path
    name: str
    path: str
    """What ``images.path`` says of it in the pipeline."""
    kind: str
    """upload, example or file."""
    _read: tuple[Images, int, Example, str] | None = None

    def look(self, images: Images, most: int) -> tuple[Example, str]:
        """Return the image under some options, and its identity.

        Parameters
        ----------
        images : Images
            Its path does not matter.
        most : int
            Longest edge, in pixels; of a larger image the middle is taken.

        Raises
        ------
        ImageError
            If it cannot be read, or is too large.
        """
        limited = images.model_copy(update={"max_pixels": min(images.max_pixels, MOST_PIXELS)})
        options = single(limited, self.file)
        if options.size is not None:
            _check_size(*options.size)
        if self._read is None or self._read[:2] != (options, most):
            example = self._open(options, most)
            _check_size(*example.pixels.shape[:2])
            self._read = (options, most, example, image_key(example.pixels))
        return self._read[2:]

    def _open(self, options: Images, most: int) -> Example:
        try:
            return read_example(options, most=most)
        except SourceError as error:
            # Of a collection of one, that none of its images can be read says nothing: the other problem says why
            about = [problem for problem in error.problems if problem.where != "images.path"]
            raise ImageError([replace(one, where=self.name) for one in about] or error.problems) from None


def _check_size(y: int, x: int) -> None:
    if max(y, x) > max(PARTS):
        change = f"Use a size of at most {max(PARTS)} pixels."
        raise ImageError(Problem("images.size", f"gives {y}×{x} pixels.", change, ("images", "size")))


def draw_example(name: str, folder: Path) -> Subject:
    """Draw one of the examples.

    Raises
    ------
    ImageError
        If there is none of this name.
    """
    if name not in examples.NAMES:
        change = f"(examples: {', '.join(examples.NAMES)})"
        raise ImageError(Problem("example", f"there is no example {name[:60]!r}.", change))
    file = folder / f"{name}.png"
    if not file.exists():
        Image.fromarray(examples.draw(name)).save(file, compress_level=1)
    return Subject(file, name, file.name, "example")


def take_upload(content: bytes, name: str, folder: Path) -> Subject:
    """Keep an uploaded file, in place of the one before.

    Parameters
    ----------
    content : bytes
    name : str
        As the browser tells it.
    folder : Path
        For temporary files.

    Raises
    ------
    ImageError
        If it is in no format that is read.
    """
    shown = PurePosixPath(PureWindowsPath(name).name).name or "image"
    shown = "".join(c for c in shown if c.isprintable())[:100]
    kind = sniff(content[:12])
    suffix = SUFFIXES.get(kind or "", ".npy" if content.startswith(b"\x93NUMPY") else "")
    if not suffix:
        what = "is in no format that is read." if content else "is empty."
        raise ImageError(Problem(shown, what, f"Use {', '.join(SUFFIXES)} or .npy."))
    file = folder / f"upload{suffix}"
    with replacing(file) as draft:  # two uploads at once must not mix
        draft.write_bytes(content)
    return Subject(file, shown, shown, "upload")


def open_file(file: Path) -> Subject:
    """Look at a file where it is."""
    return Subject(file, file.name, str(file.absolute()), "file")
