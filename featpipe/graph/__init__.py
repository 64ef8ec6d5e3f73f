"""Dask, and only here: tasks on threads or on a cluster, and lazy arrays."""

from featpipe.graph.cluster import ClusterWorkers, local_memory, open_workers
from featpipe.graph.clusters import is_exposed
from featpipe.graph.jobs import Crew, Job, Workers
from featpipe.graph.lazy import is_lazy, lazy_array, map_images
from featpipe.graph.limits import free_memory, usable_cores
from featpipe.graph.threads import ThreadWorkers

__all__ = [
    "ClusterWorkers",
    "Crew",
    "Job",
    "ThreadWorkers",
    "Workers",
    "free_memory",
    "is_exposed",
    "is_lazy",
    "lazy_array",
    "local_memory",
    "map_images",
    "open_workers",
    "usable_cores",
]
