"""Print every lower bound of pyproject.toml as a constraint for pip: ``zarr>=3.1.6,<4`` becomes ``zarr==3.1.6``."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
lowest: dict[str, str] = {}
extras = project["optional-dependencies"]
for requirement in [*project["dependencies"], *(line for extra in extras.values() for line in extra)]:
    bound = re.fullmatch(r"([\w.-]+)(\[[\w,-]+\])?\s*>=\s*([\w.]+)(,.*)?", requirement)
    if bound is None:
        continue  # an extra of our own, or a package without a bound
    name, _, version, _ = bound.groups()
    if lowest.setdefault(name, version) != version:
        raise SystemExit(f"pyproject.toml: {name} has the lower bounds {lowest[name]} and {version}")
print("\n".join(f"{name}=={version}" for name, version in sorted(lowest.items())))  # noqa: T201
