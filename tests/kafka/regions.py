"""A region on a real broker: domains that share something, what they say of it, what they hear."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from firstfault.log import Message, Record
from firstfault.log.control import publish_domains
from firstfault.log.kafka import KafkaLog
from firstfault.log.kafka_topics import topics
from schemas.base import canonical, document_of, from_microseconds
from schemas.control import Domain, DomainMap
from schemas.inputs import Verdict
from schemas.kafka import KafkaSettings
from schemas.outputs import Digest
from schemas.topics import INCIDENTS, LEASE, LOG, REGION
from schemas.worker import LeaseBeat
from tests.kafka.workers import PATIENCE_S, WorkerProcess, kept

WAN, FEED = "link:wan-7", "power:feed-1"
PODS = ("pod-0", "pod-1")
APPS = 3
"""Of a domain: enough to suspect the link, too few to be sure of it."""


async def shared_map(
    kafka: KafkaSettings, shared: tuple[str, ...] = (WAN, FEED), topology: Path | None = None
) -> DomainMap:
    """Make the topics, and publish two domains in a partition each that share something."""

    def make() -> None:
        with topics(kafka) as found:
            found.create(found.wanted(len(PODS)))

    await asyncio.to_thread(make)
    file = str(topology) if topology else None
    domains = [Domain(name=one, partition=n, topology=file) for n, one in enumerate(PODS)]
    made = DomainMap(domains=domains, shared=list(shared))
    log = KafkaLog(kafka)
    await publish_domains(log, made, len(PODS))
    await log.close()
    return made


def users_of_wan(folder: Path, apps: int = APPS) -> Path:
    """Write the topology of a domain in which applications on two hosts use the link."""
    edges = []
    for number in range(apps):
        app, vm, host = f"app:a{number}", f"vm:v{number}", f"host:h{number % 2}"
        edges += [(app, WAN, "serves"), (app, vm, "runs_on"), (vm, host, "hosted_by")]
    file = folder / "topology.json"
    listed = [{"from": one, "to": other, "relation": name} for one, other, name in edges]
    file.write_text(json.dumps({"nodes": [], "edges": listed}))
    return file


async def report(log: KafkaLog, signal: str, state: str, seconds: int = 0) -> None:
    """Let a collector of each domain tell the same of its applications."""
    for partition, pod in enumerate(PODS):
        frame = {
            "frame_id": f"collector:h0/b1/{state}-{seconds}",
            "domain": pod,
            "inputs": [
                {
                    "type": "event",
                    "entity": f"app:a{number}",
                    "signal": signal,
                    "state": state,
                    "source": f"collector:h{number % 2}",
                }
                for number in range(APPS)
            ],
        }
        await log.append(LOG, [Message(pod, json.dumps(frame).encode())], partition)


class RegionProcess(WorkerProcess):
    """One `firstfault run --region`."""

    def __init__(self, kafka: KafkaSettings, name: str, *options: str) -> None:
        self.name = name
        program = "from firstfault.cli import main; main()"
        given = ["--kafka", kafka.bootstrap, "--prefix", kafka.prefix, "--instance", name]
        self.process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-c", program, "run", "--region", *given, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def lines(self) -> list[dict[str, Any]]:
        """Return what it printed, once it has ended."""
        assert self.process.stdout is not None
        return [json.loads(one) for one in self.process.stdout]

    def close(self) -> str:
        """See `WorkerProcess.close`."""
        words = super().close()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return words


async def tell(log: KafkaLog, domain: str, resource: str, state: str, **more: object) -> None:
    """Append a digest as a domain's worker does."""
    told_at = from_microseconds(time.time_ns() // 1_000)
    given = {"domain": domain, "resource": resource, "state": state, "told_at": told_at, **more}
    value = canonical(document_of(Digest.model_validate(given))).encode()
    await log.append(REGION, [Message(resource, value)])


@asynccontextmanager
async def spoken_for(log: KafkaLog) -> AsyncIterator[None]:
    """Beat as a worker that speaks for every domain."""
    beat = LeaseBeat(owner="w1/1", partitions=list(range(len(PODS))))
    value = canonical(document_of(beat)).encode()

    async def beats() -> None:
        while True:
            await log.append(LEASE, [Message("w1", value)])
            await asyncio.sleep(0.1)

    task = asyncio.create_task(beats())
    try:
        yield
    finally:
        task.cancel()


Heard = dict[str, list[tuple[str, str]]]
"""domain → what it was told, as (resource, state), in order"""


async def heard(kafka: KafkaSettings) -> Heard:
    """Return the verdicts in the log of each domain."""
    return {pod: told_in(await kept(kafka, LOG, place)) for place, pod in enumerate(PODS)}


def told_in(records: list[Record]) -> list[tuple[str, str]]:
    """Return the verdicts of some records."""
    given = (one for record in records for one in json.loads(record.value)["inputs"])
    verdicts = (Verdict.model_validate(one) for one in given if one["type"] == "verdict")
    return [(one.resource, one.state) for one in verdicts]


async def incidents(kafka: KafkaSettings, partition: int) -> dict[str, dict[str, Any]]:
    """Return the newest state of each incident of a partition."""
    return {one.key: json.loads(one.value) for one in await kept(kafka, INCIDENTS, partition)}


async def until(
    kafka: KafkaSettings,
    is_there: Callable[[list[tuple[str, str]]], bool],
    pods: tuple[str, ...] = PODS,
) -> Heard:
    """Return what the domains were told, once each of some was told something."""
    end_s = time.monotonic() + PATIENCE_S
    while True:
        found = await heard(kafka)
        if all(is_there(found[pod]) for pod in pods):
            return found
        assert time.monotonic() < end_s, found
        await asyncio.sleep(0.05)


async def newest(
    kafka: KafkaSettings,
    resource: str,
    state: str,
    count: int = 1,
    pods: tuple[str, ...] = PODS,
) -> Heard:
    """Return what the domains were told, once the newest of a resource is this, and so many are."""

    def is_there(told: list[tuple[str, str]]) -> bool:
        mine = [one for one in told if one[0] == resource]
        return len(mine) >= count and mine[-1][1] == state

    return await until(kafka, is_there, pods)


async def opened(kafka: KafkaSettings, partition: int) -> list[dict[str, Any]]:
    """Return the incidents of a partition, once one of them is open."""
    end_s = time.monotonic() + PATIENCE_S
    while True:
        found = list((await incidents(kafka, partition)).values())
        if any(one["state"] == "open" for one in found):
            return found
        assert time.monotonic() < end_s, found
        await asyncio.sleep(0.1)


async def doubts(kafka: KafkaSettings) -> list[tuple[str, float]]:
    """Return what the domains told the region but that all is well, in order."""
    told = [Digest.model_validate_json(one.value) for one in await kept(kafka, REGION, 0)]
    return [(one.state, one.confidence) for one in told if one.state != "working"]
