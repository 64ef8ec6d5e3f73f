"""Dask clusters: started here, or reached where they are."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from featpipe.errors import Problem, RunError, SpecError
from featpipe.graph.limits import free_memory, usable_cores
from featpipe.reading.files import check_regular, read_file, stat_file
from featpipe.spec.cluster import Cluster, LocalWorkers, Tls

TICK = 0.2
"""Seconds between two looks at whether the scheduler that is asked is there."""
ANSWER = "20s"
"""How long a scheduler may take to answer."""
MOST_BYTES = 2**20
"""Of a scheduler's file."""
FIRST = 60.0
"""Seconds to wait for a cluster's first worker."""
QUIET = ("distributed", "distributed.client", "distributed.core", "distributed.comm", "distributed.nanny",
         "distributed.scheduler", "distributed.worker", "tornado.application", "asyncio")  # fmt: skip
"""Loggers whose traces of workers that come and go would bury what matters."""
PACKAGES = {"dask_jobqueue": "dask-jobqueue", "dask_kubernetes": "dask-kubernetes", "dask_gateway": "dask-gateway"}


@dataclass(frozen=True)
class Connection:
    """A client of a cluster."""

    client: Any
    address: str
    dashboard: str
    grows: bool
    """Whether workers were asked for, which may take their time to come."""

    def workers(self) -> Mapping[str, Any]:
        """Return what the scheduler knows of every worker, by address."""
        found: Mapping[str, Any] = self.client.scheduler_info(n_workers=-1)["workers"]
        return found

    def threads(self, seconds: float) -> Mapping[str, int]:
        """Return the threads of every worker, by address; what a scheduler of thousands tells at no cost."""
        found: Mapping[str, int] = self.ask(self.client.scheduler.ncores, workers=None, seconds=seconds)
        return found

    def ask(self, request: Callable[..., Any], *arguments: Any, seconds: float, **options: Any) -> Any:
        """Await a request in the client's own loop.

        Raises
        ------
        TimeoutError
            If there is no answer after so many seconds: a scheduler that is frozen or cut off closes no connection.
        OSError
            If the connection breaks; the client by itself would wait for another scheduler at the same address.
        """

        async def answer() -> Any:
            asked = asyncio.ensure_future(request(*arguments, **options))
            while not (await asyncio.wait([asked], timeout=TICK))[0]:
                if self.client.status != "running":
                    asked.cancel()
                    raise ConnectionError("the connection broke")
            return asked.result()

        return self.client.sync(answer, callback_timeout=seconds)


@contextmanager
def connected(cluster: Cluster) -> Iterator[Connection]:
    """Give a connection to a cluster.

    Raises
    ------
    SpecError
        If a library is missing, or the cluster's class does not take its options.
    RunError
        If no scheduler answers, or none with workers.
    """
    try:
        import distributed
    except ModuleNotFoundError as error:
        if error.name != "distributed":
            raise
        what = "running on a cluster needs the package distributed, which is not installed."
        raise SpecError(Problem("cluster", what, "pip install 'featpipe[distributed]'")) from None
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    where = _place(cluster)
    with ExitStack() as stack:
        started = _start(cluster, stack)
        try:
            target = _target(cluster, started)
            if started is None:
                _knock(target)
            client = stack.enter_context(distributed.Client(**target, timeout=ANSWER, set_as_default=False))
            client.wait_for_workers(1, timeout=FIRST if cluster.kind is None else None)
        except (OSError, ValueError, KeyError, TypeError, TimeoutError) as error:
            what = f"no Dask scheduler with workers answers at {where}: {str(error).rstrip('.')}."
            change = "Check the address, and that scheduler and workers are running."
            raise RunError(Problem("cluster", what, change)) from None
        if cluster.local is not None:
            client.register_worker_callbacks(_ignore_interrupts)
        grows = cluster.kind is not None
        yield Connection(client, str(client.scheduler.address), str(client.dashboard_link or ""), grows)


def _ignore_interrupts() -> None:
    """Leave Ctrl-C to the client: a terminal sends it to all that were started there, and workers would die of it."""
    with suppress(ValueError):  # not the main thread, which alone gets it
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _place(cluster: Cluster) -> str:
    return cluster.address or cluster.scheduler_file or cluster.kind or "this machine"


def _target(cluster: Cluster, started: Any) -> dict[str, Any]:
    """Return what a client is made with."""
    from distributed.security import Security

    security = Security() if cluster.tls is None else _security(cluster.tls)
    if cluster.scheduler_file is not None:
        found = json.loads(read_file(cluster.scheduler_file, MOST_BYTES))
        return {"address": str(found["address"]), "security": security}
    return {"address": cluster.address if started is None else started, "security": security}


def _knock(target: Mapping[str, Any]) -> None:
    """See whether a scheduler answers: a client that meets none waits, and complains as it goes."""
    from distributed.comm import connect

    address, security = target["address"], target["security"]
    if address.startswith("tls://") and security.get_connection_args("client").get("ssl_context") is None:
        raise OSError("there are no certificates for it; give them as cluster.tls")

    async def knock() -> None:
        comm = await connect(address, timeout=10, **security.get_connection_args("client"))
        comm.abort()

    asyncio.run(knock())


def _security(tls: Tls) -> Any:
    from distributed.security import Security

    for file in (tls.ca, tls.cert, tls.key):
        if file is not None:
            check_regular(file, stat_file(file))
    return Security(tls_ca_file=tls.ca, tls_client_cert=tls.cert, tls_client_key=tls.key, require_encryption=True)


def _start(cluster: Cluster, stack: ExitStack) -> Any:
    """Start a cluster that is to be started; None where one runs already."""
    if cluster.local is not None:
        return _start_local(cluster.local, stack)
    if cluster.kind is None:
        return None
    module, _, name = cluster.kind.rpartition(".")
    try:
        factory = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError:
        package = PACKAGES.get(module.partition(".")[0], module)
        what = f"{cluster.kind} needs the package {package}, which is not installed."
        raise SpecError(Problem("cluster.class", what, f"pip install {package}", ("cluster", "class"))) from None
    options = dict(cluster.options)
    if cluster.kind == "distributed.LocalCluster":
        options = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", **options}
        if isinstance(workers := options.get("n_workers"), int) and workers > 0:
            options.setdefault("memory_limit", free_memory() // workers)
    if cluster.tls is not None:
        options.setdefault("security", _security(cluster.tls))
    try:
        started = stack.enter_context(factory(**options))
        if cluster.adapt is not None:
            started.adapt(minimum=cluster.adapt.minimum, maximum=cluster.adapt.maximum)
        elif cluster.scale is not None:
            started.scale(cluster.scale)
    except (TypeError, ValueError) as error:
        what = f"{cluster.kind} cannot be made with these options: {error}."
        raise SpecError(Problem("cluster.options", what, "See its documentation.", ("cluster", "options"))) from None
    return started


def local_share(local: LocalWorkers) -> tuple[int, int]:
    """Return how many local workers are started, and the limit of memory of each, in bytes.

    Dask's own default knows neither nested control groups nor what others have taken.
    """
    workers = local.workers or max(1, usable_cores() // local.threads)
    return workers, local.memory or max(1, free_memory() // workers)


def _start_local(local: LocalWorkers, stack: ExitStack) -> Any:
    """Start processes that this machine alone can reach."""
    import dask
    from distributed import LocalCluster

    workers, memory = local_share(local)
    libraries = ("OMP", "MKL", "OPENBLAS", "NUMBA")
    environment = {f"{name}_NUM_THREADS": "1" for name in libraries}
    stack.enter_context(dask.config.set({"distributed.nanny.pre-spawn-environ": environment}))
    # Until their own logging is told otherwise, new processes say what they think
    stack.enter_context(_environment({"DASK_LOGGING__DISTRIBUTED": "critical"}))
    return stack.enter_context(
        LocalCluster(
            n_workers=workers,
            threads_per_worker=local.threads,
            memory_limit=memory,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        )
    )


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def is_exposed(address: str) -> bool:
    """Tell whether an address is reached in the clear, and over the network.

    Examples
    --------
    >>> is_exposed("tcp://10.0.0.1:8786"), is_exposed("tls://10.0.0.1:8786"), is_exposed("tcp://127.0.0.1:8786")
    (True, False, False)
    """
    if not address.startswith("tcp://"):
        return False
    host = urlsplit(address).hostname or ""
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"
