"""Dask, and only here: tasks on threads or on a cluster, and lazy arrays."""

from featpipe.graph.cluster import ClusterWorkers, open_workers
from featpipe.graph.clusters import is_exposed
from featpipe.graph.jobs import Crew, Job, Workers
from featpipe.graph.lazy import is_lazy, lazy_array, map_images
from featpipe.graph.threads import ThreadWorkers, cpu_count, make_graph

__all__ = [
    "ClusterWorkers",
    "Crew",
    "Job",
    "ThreadWorkers",
    "Workers",
    "cpu_count",
    "is_exposed",
    "is_lazy",
    "lazy_array",
    "make_graph",
    "map_images",
    "open_workers",
]
