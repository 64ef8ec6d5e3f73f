"""Which machines a run uses. It changes no bit of the features, and is no part of what the store says of itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from featpipe.spec.amounts import MEMORY, memory_bytes
from featpipe.spec.base import Count, Flaw, PathText, Spec, describe, is_number, wrong
from featpipe.spec.shape import Limited, Written

CLASSES = (
    "dask_jobqueue.SLURMCluster", "dask_jobqueue.PBSCluster", "dask_jobqueue.SGECluster", "dask_jobqueue.LSFCluster",
    "dask_jobqueue.MoabCluster", "dask_jobqueue.OARCluster", "dask_jobqueue.HTCondorCluster",
    "dask_kubernetes.operator.KubeCluster", "dask_gateway.GatewayCluster", "distributed.LocalCluster",
)  # fmt: skip
"""Those that a pipeline may name: importing whatever a file names would run it."""
MOST_WORKERS = 100_000
LOCAL_OPTIONS = ("n_workers", "threads_per_worker", "memory_limit", "local_directory", "dashboard_address")
"""Of `distributed.LocalCluster`; others name code to load, or interfaces to listen on."""
WAYS = ("local", "address", "scheduler_file", "class")


def _memory(value: object) -> object:
    if isinstance(value, str):
        try:
            return memory_bytes(value)
        except ValueError as error:
            raise wrong(Flaw(f"{error}.")) from None
    if value is not None and not is_number(value):
        raise wrong(Flaw(f"must be an amount of memory such as 2GiB, got {describe(value)}."))
    return value


def _address(value: str) -> str:
    if not value.startswith(("tcp://", "tls://")) or any(letter.isspace() for letter in value):
        raise wrong(Flaw(f"must be tcp://HOST:PORT or tls://HOST:PORT, got {describe(value)}."))
    return value


def _known_class(value: str) -> str:
    if value not in CLASSES:
        raise wrong(Flaw(f"must be one of {', '.join(CLASSES)}, got {describe(value)}."))
    return value


ClassName = Annotated[str, AfterValidator(_known_class), Limited({"enum": list(CLASSES)})]


class LocalWorkers(Spec):
    """Processes of this machine, reached by it alone."""

    workers: Annotated[Count | None, Field(le=1024)] = None
    """Processes; as many as there are cores, divided by ``threads``, unless given."""
    threads: Annotated[Count, Field(le=4096)] = 1
    """Threads of each process."""
    memory: Annotated[
        Annotated[int, Field(ge=1, lt=2**60)] | None,
        BeforeValidator(_memory),
        Written({"type": "string", "pattern": MEMORY}),
    ] = None
    """Memory of each process, e.g. 2GiB, or a number of bytes; an equal share of the machine's unless given."""


class Adapt(Spec):
    """As many workers as the work asks for, between these."""

    minimum: Annotated[Count, Field(le=MOST_WORKERS)] = 1
    """Workers that stay, also while there is nothing to do."""
    maximum: Annotated[Count, Field(le=MOST_WORKERS)]
    """Workers, at most."""


class Tls(Spec):
    """Certificates for ``tls://``: PEM files."""

    ca: PathText
    """The authority by which scheduler and workers are known."""
    cert: PathText
    """This machine's certificate."""
    key: PathText
    """This machine's private key."""


class Cluster(Spec):
    """One of ``local``, ``address``, ``scheduler_file`` and ``class``."""

    local: LocalWorkers | None = None
    """Processes of this machine; ``{}`` for as many as it has cores."""
    address: Annotated[str, AfterValidator(_address), Limited({"pattern": r"^(tcp|tls)://\S*$"})] | None = None
    """Address of a Dask scheduler, e.g. ``tcp://10.0.0.1:8786``."""
    scheduler_file: PathText | None = None
    """The file that ``dask scheduler --scheduler-file`` writes."""
    kind: ClassName | None = Field(default=None, alias="class")
    """A class of dask-jobqueue, dask-kubernetes or dask-gateway, installed beside featpipe."""
    options: dict[str, Any] = {}
    """What the class is made with, e.g. ``{queue: long, cores: 8, memory: 16GB}``."""
    scale: Annotated[Count | None, Field(le=MOST_WORKERS)] = None
    """Workers to ask for."""
    adapt: Adapt | None = None
    """As many workers as the work asks for, instead of ``scale``."""
    tls: Tls | None = None
    """Certificates for ``tls://``."""

    @model_validator(mode="after")
    def _is_one(self) -> Cluster:
        given = [name for name, value in zip(WAYS, self._ways(), strict=True) if value is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none of them"
            raise wrong(Flaw(f"must have one of {', '.join(WAYS)}, got {got}."))
        if self.kind is None:
            for name in ("options", "scale", "adapt"):
                if name in self.model_fields_set:
                    raise wrong(Flaw(f"{name} goes with class.", at=(name,), on_key=True))
        if self.kind == "distributed.LocalCluster":
            for key in self.options:
                if key not in LOCAL_OPTIONS:
                    what = f"is none of {', '.join(LOCAL_OPTIONS)}, which may be set here."
                    raise wrong(Flaw(what, "Use local: for processes of this machine.", ("options", key), True))
        if self.scale is not None and self.adapt is not None:
            raise wrong(Flaw("give scale or adapt, not both.", at=("adapt",), on_key=True))
        if self.tls is not None and self.local is not None:
            raise wrong(Flaw("local workers are reached by this machine alone.", at=("tls",), on_key=True))
        return self

    def _ways(self) -> tuple[object, ...]:
        return self.local, self.address, self.scheduler_file, self.kind

    @property
    def way(self) -> Literal["local", "address", "scheduler_file", "class"]:
        """Which of the four is given."""
        if self.local is not None:
            return "local"
        if self.address is not None:
            return "address"
        return "scheduler_file" if self.scheduler_file is not None else "class"
