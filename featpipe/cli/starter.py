"""The first pipeline, for those who begin."""

from __future__ import annotations

from pathlib import Path

from featpipe.errors import Problem, StoreError
from featpipe.replacing import replacing
from featpipe.schema.build import FILE_NAME, schema_text

NAME = "pipeline.yaml"
STARTER = f"""\
# yaml-language-server: $schema={FILE_NAME}
# A featpipe pipeline: which images, which features, where to. Paths are relative to this file.
#   featpipe plan pipeline.yaml    tells shapes, memory and sizes before anything is computed
#   featpipe run pipeline.yaml     writes the features; run it again after an interruption and it goes on
#   featpipe banks                 lists the filter banks

images:
  path: images/                    # a directory, a glob, a manifest .csv, a .npy or a .zarr
                                   # folders in it become labels; train/, test/, val/ above them become splits
  color: gray                      # gray, rgb, or keep
  # size: [256, 256]               # y, x in pixels; without it every image keeps its own size
  # fit: crop                      # how images of another shape get there: crop, pad, stretch, error
  # split: {{test: 0.2, seed: 0}}    # draw a test set, where there are no folders for it

features:
  texture:                         # a branch: layers in order, under a name of your choice
    scales: [1, 2]                 # on the image, and on the image halved
    layers:
      - convolve: {{bank: gabor, frequencies: [0.1, 0.2, 0.4], orientations: 6, padding: reflect}}
      - modulus                    # even and odd response -> local amplitude
      - pool: {{mean: {{grid: [2, 2]}}}}    # the mean over each quarter, whatever the image's size
  edges:
    layers:
      - convolve: {{bank: sobel, padding: reflect}}
      - modulus                    # derivatives along y and x -> gradient magnitude
      - pool: {{mean: {{grid: [2, 2]}}}}

store:
  path: features.zarr
  # dtype: float16                 # half the bytes; the arithmetic stays float32
"""


def write_starter(directory: Path) -> Path:
    """Write a first pipeline into a directory, the schema that tells editors its keys, and make a place for images.

    Parameters
    ----------
    directory : Path
        Made if it is missing.

    Returns
    -------
    Path
        The pipeline file.

    Raises
    ------
    StoreError
        If there is one already.
    """
    file = directory / NAME
    if file.exists() or file.is_symlink():
        raise StoreError(Problem(str(file), "exists already.", "Give another directory, or move the file away."))
    if directory.exists() and not directory.is_dir():
        raise StoreError(Problem(str(directory), "is a file.", "Give a directory."))
    (directory / "images").mkdir(parents=True, exist_ok=True)
    with file.open("x", encoding="utf-8") as stream:
        stream.write(STARTER)
    with replacing(directory / FILE_NAME) as draft:
        draft.write_text(schema_text(), encoding="utf-8")
    return file
