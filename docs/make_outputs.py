"""Run the documents that run, and put right what they show; what still holds stays as it is written.

A picture that a document shows and that its code has made is taken from there.

python docs/make_outputs.py [FILE ...]
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def main(names: list[str]) -> None:
    """Rewrite the documents named, or all."""
    from tests.documents import RUN, rewritten

    os.environ["MPLBACKEND"] = "Agg"
    for path in map(Path, names) if names else sorted((ROOT / "docs").rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        if RUN not in text:
            continue
        with tempfile.TemporaryDirectory() as home:
            new = rewritten(text, Path(home))
            for link in re.findall(r"!\[[^\]]*\]\(([^)]+\.png)\)", new):
                for made in Path(home).rglob(Path(link).name):
                    shutil.copyfile(made, path.parent / link)
        print(f"{path}: {'as it was' if new == text else 'put right'}")
        path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
