"""``firstfault run --kafka``: one worker of several on a cluster, and what keeps it honest.

Puts together the log, the worker, its watchdog and its metrics; the signals are the watchdog's.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from correlator.shell import Shell, Site
from correlator.worker import GROUP, STANDBY, Hooks, Worker, WorkerSettings
from firstfault.log.control import read_domains
from firstfault.log.kafka import KafkaLog
from firstfault.log.kafka_settings import quiet_libraries
from firstfault.log.kafka_topics import check_topics
from firstfault.metrics import WorkerMetrics, serve_metrics
from firstfault.watchdog import SIGNALS, Watchdog
from schemas.control import DomainMap
from schemas.kafka import KafkaSettings
from schemas.topics import LOG

SNAPSHOT_S = 5.0
"""How long one part of a snapshot is tried: the next snapshot is due soon."""
CLOSE_S = 1.0
"""A producer with nothing left to send needs no longer; all that was said is acknowledged."""
SitesOf = Callable[[DomainMap | None], Mapping[int, Sequence[Site]]]
"""Makes of the map of domains what is in each partition."""


@dataclass(frozen=True)
class Wanted:
    """How a worker is to run."""

    kafka: KafkaSettings
    owner: str
    """Its name in the log."""
    instance: str | None = None
    standby: bool = False
    metrics_port: int | None = None
    lasts_s: float | None = None


def own_name(instance: str | None) -> str:
    """Return the name of this worker: the one given, else that of the machine and the process."""
    return instance or f"{socket.gethostname()}-{os.getpid()}"


def block_signals() -> None:
    """Leave the signals that end us to the watchdog; before the first thread is started."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


async def serve(wanted: Wanted, sites_of: SitesOf, hooks: Hooks) -> None:
    """Work until a signal, or until its time is over; the signals are blocked since the start.

    Raises:
        LogError: the worker cannot go on.
    """
    quiet_libraries()
    loop, whole = asyncio.get_running_loop(), asyncio.current_task()
    workers: list[Worker] = []

    def stop() -> None:
        for worker in workers:
            worker.stop()
        if not workers and whole is not None:
            whole.cancel()

    def shells() -> dict[int, Shell]:
        return workers[0].shells() if workers else {}

    watchdog = Watchdog(
        wanted.kafka, LOG, lambda: progress(shells()), lambda: loop.call_soon_threadsafe(stop)
    )
    watchdog.start()
    log, snapshots = KafkaLog(wanted.kafka), KafkaLog(wanted.kafka, append_s=SNAPSHOT_S)
    try:
        await asyncio.to_thread(check_topics, wanted.kafka)
        sites = sites_of(await read_domains(log))
        group = STANDBY if wanted.standby else GROUP
        settings = WorkerSettings(wanted.kafka, sites, wanted.owner, group, wanted.instance)
        workers.append(Worker(settings, log, snapshots, hooks))
        if wanted.metrics_port is not None:
            serve_metrics(wanted.metrics_port, WorkerMetrics(shells, workers[0].counts))
        if wanted.lasts_s is not None:
            loop.call_later(wanted.lasts_s, stop)
        await workers[0].run()
    finally:
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(log.close(), snapshots.close()), CLOSE_S)
        watchdog.stop()


def progress(shells: Mapping[int, Shell]) -> dict[int, int]:
    """Return the offset that is folded next, of each partition; -1 before it is recovered."""
    return {
        number: shell.partition.next_offset if shell.is_ready else -1
        for number, shell in shells.items()
    }
