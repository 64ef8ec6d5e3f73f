"""Put what ``featpipe plan pipelines/quickstart.yaml`` prints into README.md.

python docs/make_readme.py
"""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(?<=^```text\n).*?(?=^```)", re.DOTALL | re.MULTILINE)


def plan_text() -> str:
    """Return the plan of the quickstart in a fresh copy of ``pipelines``, paths shortened."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve() / "pipelines"
        shutil.copytree(ROOT / "pipelines", folder, ignore=shutil.ignore_patterns("images", "photos", "*.zarr"))
        runpy.run_path(str(folder / "make_images.py"), run_name="__main__")
        command = [sys.executable, "-m", "featpipe", "plan", str(folder / "quickstart.yaml")]
        wide = {**os.environ, "COLUMNS": "240"}
        printed = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, env=wide).stdout
    shortened = printed.replace(str(folder.parent), "…").strip()
    return "".join(f"{line.rstrip()}\n" for line in shortened.splitlines())


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(BLOCK.sub(plan_text().replace("\\", r"\\"), readme.read_text(encoding="utf-8")), encoding="utf-8")
