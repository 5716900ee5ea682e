"""What is done to workers and brokers while numbered inputs come, and what it came to.

    python -m tests.kafka.faults --runs 20 [--fault worker_killed]

Each run has a broker of its own. Prints JSON; ends with 1 where anything was lost, made up, or told
out of order. `tests/kafka/test_worker.py` runs each once.
"""

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from subprocess import TimeoutExpired
from typing import Any

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from firstfault.log.kafka_settings import client_options
from schemas.kafka import KafkaSettings
from schemas.topics import SNAPSHOTS
from tests.kafka.cluster import Cluster
from tests.kafka.proxy import Proxy
from tests.kafka.workers import (
    Judged,
    Load,
    Site,
    WorkerProcess,
    all_told,
    following,
    judged,
    made_site,
    running,
    speaking,
    stopped,
)

BEFORE_S, AFTER_S = 4.0, 4.0
"""So long the load goes on before and after a fault."""


@dataclass
class World:
    """What a fault may touch."""

    cluster: Cluster
    site: Site
    workers: list[WorkerProcess]
    proxy: Proxy
    """Between the first worker and the broker."""

    def start(self, name: str, *options: str) -> WorkerProcess:
        """Start a worker."""
        worker = WorkerProcess(self.site, name, *options)
        self.workers.append(worker)
        return worker


Fault = Callable[[World], Awaitable[None]]


async def worker_killed(world: World) -> None:
    """Kill the only worker, and start it again."""
    world.workers[0].signal(signal.SIGKILL)
    await world.workers[0].ended()
    world.start("w1")
    await asyncio.sleep(6.0)


async def worker_added(world: World) -> None:
    """Start a second worker: partitions move to it."""
    world.start("w2")
    await asyncio.sleep(8.0)


async def clean_stop(world: World) -> None:
    """Stop the only worker cleanly, and start it again."""
    world.workers[0].signal(signal.SIGTERM)
    assert await world.workers[0].ended(5.5) == 0
    world.start("w1")
    await asyncio.sleep(6.0)


async def broker_killed(world: World) -> None:
    """Kill the only broker, and start it again."""
    world.cluster.kill(1)
    world.cluster.start(1)
    await asyncio.to_thread(world.cluster.wait)
    await asyncio.sleep(4.0)


async def one_of_three_killed(world: World) -> None:
    """Kill one broker of three; it does not come back while the load lasts."""
    world.cluster.kill(2)
    await asyncio.sleep(10.0)


async def worker_stopped(world: World) -> None:
    """Stop a worker for 10 s behind its back; a standby speaks for it meanwhile."""
    world.start("s1", "--standby")
    await following(world.site, "s1")
    world.workers[0].signal(signal.SIGSTOP)
    await asyncio.sleep(10.0)
    world.workers[0].signal(signal.SIGCONT)
    await asyncio.sleep(6.0)


async def standby_takes_over(world: World) -> None:
    """Kill a worker for good; a standby that has heard it for a while speaks from then on."""
    world.start("s1", "--standby")
    await following(world.site, "s1")
    await asyncio.sleep(1.0)
    world.workers[0].signal(signal.SIGKILL)
    await asyncio.sleep(4.0)


async def broker_away(world: World) -> None:
    """Stop the only broker for 18 s: Faust was seen to stand still for ever after that."""
    world.cluster.kill(1)
    await asyncio.sleep(18.0)
    world.cluster.start(1)
    await asyncio.to_thread(world.cluster.wait)
    for worker in list(world.workers):
        await _again_if_ended(world, worker, 30.0)


async def _again_if_ended(world: World, worker: WorkerProcess, within_s: float) -> None:
    """Start a worker again that its watchdog ends, as a supervisor would."""
    with suppress(TimeoutExpired):
        await worker.ended(within_s)
        world.start(worker.name)


async def consumer_stopped(world: World) -> None:
    """Stop the only worker for 30 s: late beats are read before the tick that would condemn."""
    world.workers[0].signal(signal.SIGSTOP)
    await asyncio.sleep(30.0)
    world.workers[0].signal(signal.SIGCONT)
    await _again_if_ended(world, world.workers[0], 10.0)


async def broker_stopped(world: World) -> None:
    """Stop the only broker for 30 s behind everybody's back: time stands still."""
    world.cluster.pause(1)
    await asyncio.sleep(30.0)
    world.cluster.resume(1)
    await _again_if_ended(world, world.workers[0], 40.0)


async def worker_cut_off(world: World) -> None:
    """Cut a worker's connections for 20 s; a standby speaks for it meanwhile."""
    world.start("s1", "--standby")
    await following(world.site, "s1")
    world.proxy.cut()
    await asyncio.sleep(20.0)
    world.proxy.mend()
    await _again_if_ended(world, world.workers[0], 8.0)


async def snapshots_fail(world: World) -> None:
    """Let no snapshot be written for a while, as with a full disk; then kill the worker."""
    await asyncio.to_thread(_largest_snapshot, world.site.kafka, 1)
    await asyncio.sleep(12.0)  # One falls due each 10 s.
    world.workers[0].signal(signal.SIGKILL)
    await world.workers[0].ended()
    await asyncio.to_thread(_largest_snapshot, world.site.kafka, 2_097_152)
    world.start("w1")
    await asyncio.sleep(6.0)


def _largest_snapshot(kafka: KafkaSettings, size_bytes: int) -> None:
    name = kafka.named(SNAPSHOTS)
    admin = KafkaAdminClient(**client_options(kafka))
    wanted = {"max.message.bytes": str(size_bytes)}
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, wanted)])
    admin.close()


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        worker_killed,
        worker_added,
        clean_stop,
        broker_killed,
        one_of_three_killed,
        worker_stopped,
        standby_takes_over,
        broker_away,
        consumer_stopped,
        broker_stopped,
        worker_cut_off,
        snapshots_fail,
    )
}


async def run(fault: Fault, per_s: int = 1_000) -> Judged:
    """Run workers under load through a fault; judge what they published."""
    brokers = 3 if fault is one_of_three_killed else 1
    proxy = Proxy()
    cluster = Cluster(brokers)
    if brokers == 1:
        cluster.also_at(proxy.broker_port, advertised=proxy.port)
    with cluster:
        kafka = KafkaSettings(bootstrap=cluster.bootstrap)
        site = await made_site(kafka)
        world = World(cluster, site, [], proxy)
        if fault is worker_cut_off:
            await proxy.start()
            world.workers.append(WorkerProcess(site, "w1", bootstrap=proxy.bootstrap))
        else:
            world.start("w1")
        try:
            await speaking(site)
            load = Load(site, per_s)
            loading = asyncio.create_task(load.run())
            await asyncio.sleep(BEFORE_S)
            await fault(world)
            await asyncio.sleep(AFTER_S)
            load.stop()
            await loading
            await all_told(site)
            await stopped(world.workers)
        finally:
            async with running(*world.workers):
                await proxy.close()
        return await judged(site, load)


def main() -> int:
    """Run faults as often as asked; print what they came to."""
    parser = argparse.ArgumentParser(prog="python -m tests.kafka.faults")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--per-s", type=int, default=1_000, help="messages a second")
    parser.add_argument("--fault", action="append", choices=sorted(FAULTS))
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    is_right = True
    for name in options.fault or FAULTS:
        runs = []
        for number in range(options.runs):
            started_s = time.monotonic()
            found = asyncio.run(run(FAULTS[name], options.per_s))
            took_s = round(time.monotonic() - started_s, 1)
            sys.stderr.write(f"{name} {number + 1}: {took_s} s {asdict(found)}\n")
            runs.append(found)
            is_right &= found.is_right
        counts = [key for key, value in asdict(runs[0]).items() if isinstance(value, int)]
        totals = {key: sum(getattr(one, key) for one in runs) for key in counts}
        totals["silence_ms"] = max(one.silence_ms for one in runs)
        figures[name] = {"runs": len(runs), "right": sum(one.is_right for one in runs), **totals}
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
