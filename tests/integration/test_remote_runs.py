"""A run whose images lie in an object store, through the command line: the same features, and no secrets anywhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

import featpipe
from tests.endpoint import KEY, SECRET, Bucket
from tests.unit.source_examples import write_folder, write_tar

PIPELINE = """\
images: {path: "%s", color: gray, size: [5, 7], fit: stretch}
features: {a: {layers: [{convolve: {bank: sobel}}]}}
store: {path: %s.zarr}
"""


def test_images_in_a_bucket_give_the_features_of_those_here(bucket: Bucket, tmp_path: Path) -> None:
    here = write_folder(tmp_path / "images")
    tar = bucket.put("a.tar", write_tar(tmp_path / "a.tar").read_bytes())
    said = ""
    for name, path in [("here", here), ("there", bucket.put_folder(here, "in")), ("tar", tar)]:
        (tmp_path / f"{name}.yaml").write_text(PIPELINE % (path, name))
        command = [sys.executable, "-m", "featpipe", "run", f"{name}.yaml"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
        said += done.stdout + done.stderr
    stacks = [featpipe.open(tmp_path / f"{name}.zarr") for name in ("here", "there", "tar")]
    (x, y), *others = [stack.xy() for stack in stacks]
    for x_there, y_there in others:
        assert np.array_equal(x, x_there)
        assert np.array_equal(y, y_there)
    written = b"".join(file.read_bytes() for file in tmp_path.rglob("*.zarr/**/*") if file.is_file())
    for secret in (KEY, SECRET):
        assert secret not in said
        assert secret.encode() not in written
