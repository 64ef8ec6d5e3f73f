"""Write example images beside this file, from the pictures that scikit-image brings along; nothing is downloaded.

images/{train,test}/{brick,grass,gravel}/NN.png   64×64 patches of three textures (CC0): training patches from the
                                                  upper half of each picture, test patches from the lower
photos/*.png                                      four photographs of different sizes (CC0, public domain)
"""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import numpy.typing as npt
from skimage import data

HERE = Path(__file__).resolve().parent
TEXTURES = ("brick", "grass", "gravel")
PHOTOS = ("astronaut", "camera", "cat", "coffee")
EDGE = 64


def write_textures(folder: Path) -> int:
    """Cut every texture into patches that share no pixel, and return how many."""
    count = 0
    for name in TEXTURES:
        picture = getattr(data, name)()
        half = len(picture) // 2
        for split, part in (("train", picture[:half]), ("test", picture[half:])):
            for i, patch in enumerate(cut_patches(part)):
                write_png(folder / split / name / f"{i:02d}.png", patch)
                count += 1
    return count


def cut_patches(picture: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
    """Cut a picture, (y, x), into whole patches, row by row."""
    rows, cols = (length // EDGE for length in picture.shape)
    return [picture[r * EDGE :, c * EDGE :][:EDGE, :EDGE] for r in range(rows) for c in range(cols)]


def write_png(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    """Write an image unless it is there already, so that a finished store stays up to date."""
    content = iio.imwrite("<bytes>", pixels, extension=".png")
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def main() -> None:
    """Write everything."""
    patches = write_textures(HERE / "images")
    for name in PHOTOS:
        write_png(HERE / "photos" / f"{name}.png", getattr(data, name)())
    print(f"{patches} texture patches in pipelines/images, {len(PHOTOS)} photographs in pipelines/photos")


if __name__ == "__main__":
    main()
