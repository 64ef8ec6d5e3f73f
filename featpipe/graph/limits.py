"""Memory and cores that this process may use: the machine's, its control groups', and those of a SLURM job.

Limits nest: a process may use what the tightest of its control groups leaves it. Where a group lies is told by two
files: its path within a hierarchy, and which part of that hierarchy is mounted where.

    /proc/self/cgroup      0::/user.slice/job.scope
    /proc/self/mountinfo   … / /sys/fs/cgroup … cgroup2 …      ──▶ /sys/fs/cgroup/user.slice/job.scope
                                                                   /sys/fs/cgroup/user.slice
                                                                   /sys/fs/cgroup
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from math import ceil
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import psutil

_ROOT = Path("/")
_UNITS = {"K": 1 << 10, "": 1 << 20, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
"""Units of SLURM, in bytes; a bare number is in MiB."""


class Group(NamedTuple):
    """A control group that this process is in, or one of those above it."""

    folder: Path
    version: Literal[1, 2]


def free_memory(root: Path = _ROOT, environ: Mapping[str, str] = os.environ) -> int:
    """Return the memory that this process may still take, in bytes.

    Parameters
    ----------
    root : Path
        The file system's root, below which ``proc`` and ``sys`` lie.
    environ : mapping of str to str
    """
    free = [int(psutil.virtual_memory().available)]
    free += [room for group in control_groups("memory", root) for room in _room(group)]
    job = _slurm_memory(environ)
    return max(0, min(free if job is None else [*free, job]))


def usable_cores(root: Path = _ROOT, environ: Mapping[str, str] = os.environ) -> int:
    """Return the cores that this process may use; a quota of a fraction more counts as one more."""
    cores = [_allowed_cores()]
    cores += [ceil(quota) for group in control_groups("cpu", root) if (quota := _quota(group)) is not None]
    job = _number(environ.get("SLURM_CPUS_PER_TASK", "")) or _number(environ.get("SLURM_CPUS_ON_NODE", ""))
    return max(1, min([*cores, job] if job else cores))


def control_groups(controller: str, root: Path = _ROOT) -> list[Group]:
    """Return the groups that may limit this process, innermost first; none where the system has no such thing.

    A container may see a path that is not below its mount, as it is told from outside: what is mounted counts then.
    """
    paths = dict(_group_paths(controller, _text(root / "proc/self/cgroup")))
    found = []
    for version, top, mounted in _mounts(controller, _text(root / "proc/self/mountinfo")):
        if version not in paths:
            continue
        inner = _below(paths[version], top)
        place = root / mounted.lstrip("/")
        found += [Group(place / part, version) for part in [inner, *inner.parents]]
    return found


def _group_paths(controller: str, text: str) -> Iterator[tuple[Literal[1, 2], str]]:
    """Yield the path of this process's group in each hierarchy that can hold a controller."""
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if number == "0" and not names:
            yield 2, path
        elif controller in names.split(","):
            yield 1, path


def _mounts(controller: str, text: str) -> Iterator[tuple[Literal[1, 2], str, str]]:
    """Yield version, mounted part and place of each mount of such a hierarchy."""
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or not kind:
            continue
        top, place = _plain(fields[3]), _plain(fields[4])
        if kind[0] == "cgroup2":
            yield 2, top, place
        elif kind[0] == "cgroup" and controller in kind[-1].split(","):
            yield 1, top, place


def _plain(path: str) -> str:
    r"""Return a path of mountinfo, in which blanks and backslashes are written as ``\040``."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _below(path: str, top: str) -> PurePosixPath:
    """Return where a group's path lies below what is mounted."""
    if ".." in PurePosixPath(path).parts or ".." in PurePosixPath(top).parts:
        return PurePosixPath()  # a name space's root is not the mount's
    inside = PurePosixPath(path)
    return inside.relative_to(top if inside.is_relative_to(top) else "/") if path.startswith("/") else PurePosixPath()


def _room(group: Group) -> Iterator[int]:
    """Yield what each limit of a group leaves, in bytes, where memory of files that can be dropped counts as free."""
    stat = _stat(group.folder / "memory.stat")
    if group.version == 2:
        limits = [_value(group.folder / name) for name in ("memory.max", "memory.high")]
        used = _value(group.folder / "memory.current")
        droppable = ["active_file", "inactive_file", "slab_reclaimable"]
    else:
        limits = [_value(group.folder / "memory.limit_in_bytes"), stat.get("hierarchical_memory_limit")]
        used = _value(group.folder / "memory.usage_in_bytes")
        droppable = ["total_active_file", "total_inactive_file"]
    held = max(0, (used or 0) - sum(stat.get(name, 0) for name in droppable))
    yield from (max(0, limit - held) for limit in limits if limit is not None)


def _quota(group: Group) -> float | None:
    """Return how many cores a group may keep busy; None for no limit."""
    if group.version == 2:
        quota, _, period = _text(group.folder / "cpu.max").strip().partition(" ")
    else:
        quota, period = (_text(group.folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    most, over = _number(quota), _number(period)
    return most / over if most and over else None


def _allowed_cores() -> int:
    """Return the cores of the machine that the scheduler may put this process on."""
    affinity = getattr(psutil.Process(), "cpu_affinity", None)  # macOS has none
    return len(affinity()) if affinity is not None else os.cpu_count() or 1


def _slurm_memory(environ: Mapping[str, str]) -> int | None:
    """Return what a SLURM job may take of this node, in bytes; None where it does not say."""
    node = _slurm_bytes(environ.get("SLURM_MEM_PER_NODE", ""))
    if node:
        return node
    core = _slurm_bytes(environ.get("SLURM_MEM_PER_CPU", ""))
    cores = _number(environ.get("SLURM_CPUS_ON_NODE", "")) or _number(environ.get("SLURM_CPUS_PER_TASK", "")) or 1
    return core * cores if core else None


def _slurm_bytes(text: str) -> int | None:
    """Return an amount as SLURM writes it; 0, which means all of the node, for no limit."""
    found = re.fullmatch(r"\s*(\d+)\s*([KMGT]?)B?\s*", text, re.IGNORECASE)
    return int(found[1]) * _UNITS[found[2].upper()] or None if found else None


def _stat(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: value for pair in pairs if len(pair) == 2 and (value := _number(pair[1])) is not None}


def _value(path: Path) -> int | None:
    return _number(_text(path))


def _number(text: str) -> int | None:
    """Return a whole number; None for anything else, such as ``max`` or -1."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _text(path: Path) -> str:
    """Return the text of a file of the kernel; nothing where there is none, or it may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
