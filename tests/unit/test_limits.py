"""Limits of control groups and of SLURM: trees of files as kernels show them, and groups that are really made."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from featpipe.graph import free_memory, usable_cores
from featpipe.graph.clusters import local_share
from featpipe.graph.limits import control_groups
from featpipe.spec.cluster import LocalWorkers

GIB = 1 << 30
UNLIMITED = 9223372036854771712
MOUNTS = {
    "memory": "35 31 0:32 {top} /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory",
    "cpu": "36 31 0:33 {top} /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:10 - cgroup cgroup rw,cpu,cpuacct",
    "unified": "37 31 0:34 {top} /sys/fs/cgroup/unified rw,relatime shared:11 - cgroup2 cgroup2 rw,nsdelegate",
    "v2": "30 23 0:26 {top} /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw",
}


def write_tree(root: Path, groups: str, mounts: list[str], files: Mapping[str, object], top: str = "/") -> Path:
    """Write what a kernel shows of a process's control groups."""
    proc = root / "proc/self"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text(groups)
    others = ["23 1 253:0 / / rw,relatime - ext4 /dev/vda rw", "24 23 0:5 / /proc rw - proc proc rw"]
    (proc / "mountinfo").write_text("\n".join([*others, *(MOUNTS[name].format(top=top) for name in mounts)]) + "\n")
    for name, value in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return root


def test_the_smallest_limit_on_the_way_to_the_root_counts_in_version_2(tmp_path: Path) -> None:
    own = "system.slice/slurmstepd.scope/job_7/step_0/user/task_0"
    files = {
        f"{own}/memory.max": "max",
        f"{own}/memory.current": GIB // 4,
        "system.slice/slurmstepd.scope/job_7/memory.max": 2 * GIB,
        "system.slice/slurmstepd.scope/job_7/memory.current": GIB // 2,
        "system.slice/memory.max": 64 * GIB,
        "system.slice/memory.current": 60 * GIB,
        f"{own}/cpu.max": "max 100000",
        "system.slice/slurmstepd.scope/job_7/cpu.max": "100000 100000",
    }
    root = write_tree(tmp_path, f"0::/{own}\n", ["v2"], files)
    assert free_memory(root, {}) == 3 * GIB // 2
    assert usable_cores(root, {}) == 1
    assert len(control_groups("memory", root)) == 7


def test_what_slows_a_group_down_limits_it_too(tmp_path: Path) -> None:
    files = {"a/memory.max": 4 * GIB, "a/memory.high": GIB, "a/memory.current": 0}
    assert free_memory(write_tree(tmp_path, "0::/a\n", ["v2"], files), {}) == GIB


def test_memory_that_a_group_uses_is_not_free_but_for_files_that_can_be_dropped(tmp_path: Path) -> None:
    stat = f"anon {GIB // 2}\nfile {GIB}\nactive_file {GIB // 4}\ninactive_file {GIB // 2}\nslab_reclaimable 0"
    files = {"a/memory.max": 2 * GIB, "a/memory.current": 3 * GIB // 2, "a/memory.stat": stat}
    assert free_memory(write_tree(tmp_path, "0::/a\n", ["v2"], files), {}) == 2 * GIB - 3 * GIB // 4


def test_version_1_and_hybrid_trees_are_read_by_each_controllers_path(tmp_path: Path) -> None:
    stat = f"cache 0\ntotal_inactive_file {GIB // 4}\ntotal_active_file 0\nhierarchical_memory_limit {2 * GIB}"
    files = {
        "memory/slurm/uid_1/job_2/memory.limit_in_bytes": 3 * GIB,
        "memory/slurm/uid_1/job_2/memory.usage_in_bytes": GIB,
        "memory/slurm/uid_1/job_2/memory.stat": stat,
        "memory/slurm/memory.limit_in_bytes": UNLIMITED,
        "memory/memory.limit_in_bytes": UNLIMITED,
        "cpu,cpuacct/pod/cpu.cfs_quota_us": 50000,
        "cpu,cpuacct/pod/cpu.cfs_period_us": 100000,
        "cpu,cpuacct/pod/own/cpu.cfs_quota_us": -1,
        "cpu,cpuacct/pod/own/cpu.cfs_period_us": 100000,
        "unified/user.slice/cgroup.procs": "",
    }
    groups = "9:memory:/slurm/uid_1/job_2\n4:cpu,cpuacct:/pod/own\n1:name=systemd:/x\n0::/user.slice\n"
    root = write_tree(tmp_path, groups, ["memory", "cpu", "unified"], files)
    assert free_memory(root, {}) == 2 * GIB - 3 * GIB // 4
    assert usable_cores(root, {}) == 1


@pytest.mark.parametrize(
    ("groups", "top"),
    [("9:memory:/docker/1f2e\n", "/docker/1f2e"), ("9:memory:/kubepods/pod1/1f2e\n", "/"), ("9:memory:/\n", "/../..")],
    ids=["mounted below", "told from outside", "a name space"],
)
def test_in_a_container_the_mounted_group_counts(tmp_path: Path, groups: str, top: str) -> None:
    files = {"memory/memory.limit_in_bytes": GIB, "memory/memory.usage_in_bytes": 0}
    assert free_memory(write_tree(tmp_path, groups, ["memory"], files, top), {}) == GIB


@pytest.mark.parametrize("path", ["/", "/../other", "/outside/of/it"])
def test_a_path_that_is_not_below_the_mount_falls_back_to_the_mount(tmp_path: Path, path: str) -> None:
    files = {"memory.max": GIB, "memory.current": 0, "cpu.max": "50000 100000"}
    root = write_tree(tmp_path, f"0::{path}\n", ["v2"], files)
    assert free_memory(root, {}) == GIB
    assert usable_cores(root, {}) == 1


def test_a_place_with_blanks_is_found(tmp_path: Path) -> None:
    root = write_tree(tmp_path, "0::/a b\n", [], {"a b/memory.max": GIB, "a b/memory.current": 0})
    line = "30 23 0:26 / /sys/fs/my\\040groups rw - cgroup2 cgroup2 rw\n"
    (root / "proc/self/mountinfo").write_text(line)
    (root / "sys/fs/cgroup").rename(root / "sys/fs/my groups")
    assert free_memory(root, {}) == GIB


def test_without_groups_the_machine_counts(tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert usable_cores(tmp_path, {}) == cores
    assert free_memory(tmp_path, {}) == pytest.approx(psutil.virtual_memory().available, rel=0.2)
    hostile = write_tree(tmp_path / "odd", "nonsense\n::\n0::a\n", ["v2"], {"memory.max": "many", "cpu.max": ""})
    assert free_memory(hostile, {}) > 0
    assert usable_cores(hostile, {}) == cores


@pytest.mark.parametrize(
    ("environ", "free"),
    [
        ({"SLURM_MEM_PER_NODE": "300"}, 300 << 20),
        ({"SLURM_MEM_PER_NODE": "307200K"}, 300 << 20),
        ({"SLURM_MEM_PER_CPU": "100", "SLURM_CPUS_ON_NODE": "3", "SLURM_CPUS_PER_TASK": "1"}, 300 << 20),
        ({"SLURM_MEM_PER_CPU": "150M", "SLURM_CPUS_PER_TASK": "2"}, 300 << 20),
    ],
)
def test_a_slurm_jobs_memory_is_a_limit(tmp_path: Path, environ: dict[str, str], free: int) -> None:
    assert free_memory(tmp_path, environ) == free


def test_a_slurm_job_that_says_nothing_clear_is_no_limit(tmp_path: Path) -> None:
    for text in ("0", "", "much"):
        assert free_memory(tmp_path, {"SLURM_MEM_PER_NODE": text}) > 300 << 20
        assert usable_cores(tmp_path, {"SLURM_CPUS_PER_TASK": text}) == usable_cores(tmp_path, {})
    assert usable_cores(tmp_path, {"SLURM_CPUS_PER_TASK": "1", "SLURM_CPUS_ON_NODE": "64"}) == 1
    assert usable_cores(tmp_path, {"SLURM_CPUS_ON_NODE": "1"}) == 1


def test_local_workers_share_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "600")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert local_share(LocalWorkers(workers=3)) == (3, 200 << 20)
    assert local_share(LocalWorkers()) == (1, 600 << 20)
    assert local_share(LocalWorkers(workers=3, memory=GIB)) == (3, GIB)


@pytest.fixture
def nested_group() -> Iterator[tuple[Path, str]]:
    """Make a control group within a limited one, as far as this machine lets us."""
    places = {
        "/sys/fs/cgroup/memory": "memory.limit_in_bytes",
        "/sys/fs/cgroup": "memory.max",
    }
    for place, limit in places.items():
        outer = Path(place) / f"featpipe-test-{os.getpid()}"
        try:
            (outer / "inner").mkdir(parents=True)
            (outer / limit).write_text(str(GIB // 2))
        except OSError:
            continue
        else:
            yield outer / "inner", limit
            return
        finally:
            with suppress(OSError):
                (outer / "inner").rmdir()
                outer.rmdir()
    pytest.skip("no control group can be made here")


def test_a_process_in_a_nested_group_knows_the_limit_above_it(nested_group: tuple[Path, str]) -> None:
    folder, _ = nested_group
    code = (
        f"import os; open({str(folder / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
        "from featpipe.graph import free_memory; print(free_memory())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert GIB // 4 < int(done.stdout) <= GIB // 2
