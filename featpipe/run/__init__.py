"""Runs: planned, carried out, checked."""

from featpipe.run.compiling import load_kernels
from featpipe.run.learning import learn
from featpipe.run.planning import BASE_BYTES, cluster_resources, default_resources, plan_run
from featpipe.run.report import Progress, RunReport
from featpipe.run.session import run_plan

__all__ = [
    "BASE_BYTES",
    "Progress",
    "RunReport",
    "cluster_resources",
    "default_resources",
    "learn",
    "load_kernels",
    "plan_run",
    "run_plan",
]
