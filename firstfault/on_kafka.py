"""``firstfault run --kafka``: one worker of several on a cluster, and what keeps it honest.

Puts together the log, the worker, its watchdog and its metrics; the signals are the watchdog's.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from correlator.shell import Site
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
    log, snapshots = KafkaLog(wanted.kafka), KafkaLog(wanted.kafka, append_s=SNAPSHOT_S)

    async def made() -> Worker:
        sites = sites_of(await read_domains(log))
        group = STANDBY if wanted.standby else GROUP
        settings = WorkerSettings(wanted.kafka, sites, wanted.owner, group, wanted.instance)
        worker = Worker(settings, log, snapshots, hooks)
        if wanted.metrics_port is not None:
            serve_metrics(wanted.metrics_port, WorkerMetrics(worker.shells, worker.counts))
        return worker

    await guarded(wanted, LOG, [log, snapshots], made)


class Runs(Protocol):
    """What works until it is told to stop."""

    def stop(self) -> None:
        """Ask for a clean stop."""
        ...

    def progress(self) -> Mapping[int, int]:
        """Return the offset that is read next, of each partition; another thread may ask."""
        ...

    async def run(self) -> None:
        """Work until `stop`."""
        ...


async def guarded(
    wanted: Wanted, topic: str, logs: Sequence[KafkaLog], made: Callable[[], Awaitable[Runs]]
) -> None:
    """Check the topics, make what reads one of them, and let it run under a watchdog.

    Raises:
        LogError: it cannot go on.
    """
    quiet_libraries()
    loop, whole = asyncio.get_running_loop(), asyncio.current_task()
    runners: list[Runs] = []

    def stop() -> None:
        for runner in runners:
            runner.stop()
        if not runners and whole is not None:
            whole.cancel()

    def progress() -> Mapping[int, int]:
        return runners[0].progress() if runners else {}

    watchdog = Watchdog(wanted.kafka, topic, progress, lambda: loop.call_soon_threadsafe(stop))
    watchdog.start()
    try:
        await asyncio.to_thread(check_topics, wanted.kafka)
        runners.append(await made())
        if wanted.lasts_s is not None:
            loop.call_later(wanted.lasts_s, stop)
        await runners[0].run()
    finally:
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(log.close() for log in logs)), CLOSE_S)
        watchdog.stop()
