"""A region on a real broker: domains that share something, what they say of it, what they hear."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
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
from schemas.topics import LEASE, LOG, REGION
from schemas.worker import LeaseBeat
from tests.kafka.workers import PATIENCE_S, WorkerProcess, kept

WAN, FEED = "link:wan-7", "power:feed-1"
PODS = ("pod-0", "pod-1")


async def shared_map(kafka: KafkaSettings, shared: tuple[str, ...] = (WAN, FEED)) -> DomainMap:
    """Make the topics, and publish two domains in a partition each that share something."""

    def make() -> None:
        with topics(kafka) as found:
            found.create(found.wanted(len(PODS)))

    await asyncio.to_thread(make)
    domains = [Domain(name=name, partition=number) for number, name in enumerate(PODS)]
    made = DomainMap(domains=domains, shared=list(shared))
    log = KafkaLog(kafka)
    await publish_domains(log, made, len(PODS))
    await log.close()
    return made


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


async def until(kafka: KafkaSettings, is_there: Callable[[list[tuple[str, str]]], bool]) -> Heard:
    """Return what the domains were told, once each of them was told something."""
    end_s = time.monotonic() + PATIENCE_S
    while True:
        found = await heard(kafka)
        if all(map(is_there, found.values())):
            return found
        assert time.monotonic() < end_s, found
        await asyncio.sleep(0.05)


async def newest(kafka: KafkaSettings, resource: str, state: str, count: int = 1) -> Heard:
    """Return what the domains were told, once the newest of a resource is this, and so many are."""

    def is_there(told: list[tuple[str, str]]) -> bool:
        mine = [one for one in told if one[0] == resource]
        return len(mine) >= count and mine[-1][1] == state

    return await until(kafka, is_there)
