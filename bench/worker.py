"""The worker on a real broker: events per processor second, and the way from event to answer.

Beside it a plain Faust agent that only counts, on the same frames in the same run: the ratio says
what decoding, folding and publishing add. The machine's two cores also run the broker and the load.
"""

import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count, islice
from pathlib import Path
from typing import Any, cast

from aiokafka import AIOKafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from bench import load
from bench.clock import Figures, milliseconds
from bench.incident_storm import PACK
from bench.local_log import frame
from bench.storm_frames import frames, storm, with_ticks
from correlator.faust_app import make_app
from correlator.rules import load_pack
from correlator.shell import Shell, Site
from correlator.worker import Hooks, Worker, WorkerSettings
from firstfault.log import Message, Record
from firstfault.log.kafka import KafkaLog
from firstfault.log.kafka_settings import client_options, quiet_libraries
from firstfault.log.kafka_topics import topics
from firstfault.playback import spare_collections
from schemas.kafka import KafkaSettings
from schemas.topics import DECISIONS, LOG
from tests.kafka.cluster import Cluster
from tests.kafka.workers import WorkerProcess, made_site, running, speaking

FRAMES = (1, 10, 50)
PER_S = {1: 1_000, 10: 10_000, 50: 30_000}
"""Events a second of the load: below what one core takes, so that nothing but it is waited for."""
SECONDS = 6.0
WARM_S = 2.0
QUIET, STORM = "quiet", "storm"
BACKLOG_FRAMES = (10, 50)
BACKLOG_EVENTS = {10: 200_000, 50: 500_000}
BACKLOG_S = 120.0
AT_ONCE = 200
"""Frames of a backlog that are appended together."""
LATENCIES_PER_S = (1_000, 5_000)
IDLE_PARTITIONS = 48
SLOW_FRAMES, SLOW_S = 50, 30
ASKED = "host:asked-"


def worker() -> Figures:
    """Return events per processor second for frames of 1, 10 and 50, and latencies."""
    quiet_libraries()
    with Cluster() as cluster:
        figures: Figures = {
            f"frames_of_{size}": asyncio.run(_throughput(cluster.bootstrap, size))
            for size in FRAMES
        }
        for kind in (QUIET, STORM):
            for size in BACKLOG_FRAMES:
                figures[f"{kind}_backlog_of_{size}"] = asyncio.run(
                    _backlog(cluster.bootstrap, kind, size)
                )
        for per_s in LATENCIES_PER_S:
            figures[f"at_{per_s}_per_s"] = asyncio.run(_latency(cluster.bootstrap, per_s))
        figures["too_slow"] = asyncio.run(_too_slow(cluster.bootstrap))
        figures["idle"] = asyncio.run(_idle(cluster.bootstrap))
    return figures


async def _idle(bootstrap: str) -> Figures:
    """Return what a worker takes of a core with nothing but its own ticks and beats."""
    kafka = KafkaSettings(bootstrap=bootstrap, prefix="idle.")
    with topics(kafka) as found:
        found.create(found.wanted(IDLE_PARTITIONS))
    shares = {}
    for partitions in (1, IDLE_PARTITIONS):
        async with _worker(kafka, _quiet(partitions), f"idle-{partitions}"):
            await asyncio.sleep(WARM_S)
            cpu_s, start_s = time.process_time(), time.monotonic()
            await asyncio.sleep(SECONDS)
            spent_s = time.process_time() - cpu_s
            shares[partitions] = round(spent_s / (time.monotonic() - start_s), 3)
    return {f"core_share_of_{number}_partitions": share for number, share in shares.items()}


async def _too_slow(bootstrap: str) -> Figures:
    """Return how the memory grows of a worker that folds a tenth of what comes."""
    kafka = KafkaSettings(bootstrap=bootstrap, prefix="slow.")
    with topics(kafka) as found:
        found.create(found.wanted(1))
    async with _worker(kafka, _quiet(1)) as counted:
        with _slowed(10 * SLOW_FRAMES / PER_S[SLOW_FRAMES]):
            words = ["-m", __name__, kafka.bootstrap, kafka.prefix, str(SLOW_FRAMES)]
            producer = subprocess.Popen([sys.executable, *words], cwd=Path(__file__).parents[1])  # noqa: ASYNC220, S603
            try:
                taken_mb = []
                for _ in range(SLOW_S):
                    await asyncio.sleep(1.0)
                    taken_mb.append(_resident_mb())
            finally:
                producer.kill()
                producer.wait()
            log = KafkaLog(kafka)
            behind = (await log.span(LOG)).end - counted()
            await log.close()
    return {"frames_behind": behind, "resident_mb": taken_mb}


@contextmanager
def _slowed(pause_s: float) -> Iterator[None]:
    """Let every record take so much longer to be folded."""
    known = Shell._take  # noqa: SLF001

    def slow(shell: Shell, record: Record) -> None:
        known(shell, record)
        time.sleep(pause_s)

    Shell._take = slow  # type: ignore[method-assign,assignment] # noqa: SLF001
    try:
        yield
    finally:
        Shell._take = known  # type: ignore[method-assign] # noqa: SLF001


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return round(pages * resource.getpagesize() / 1e6, 1)


# ---- processor time ------------------------------------------------------------------------


async def _throughput(bootstrap: str, size: int) -> Figures:
    kafka = KafkaSettings(bootstrap=bootstrap, prefix=f"speed-{size}.")
    with topics(kafka) as found:
        found.create(found.wanted(1))
    plain = await _measured(_plain(kafka), kafka, size)
    ours = await _measured(_worker(kafka, _quiet(1)), kafka, size)
    return {
        "load_per_s": PER_S[size],
        "folded_per_cpu_s": round(ours[0]),
        "core_share": round(ours[1], 3),
        "plain_faust_per_cpu_s": round(plain[0]),
        "plain_core_share": round(plain[1], 3),
        "times_plain_faust": round(plain[0] / ours[0], 2),
    }


async def _backlog(bootstrap: str, kind: str, size: int) -> Figures:
    """Return events per processor second of frames that come faster than they can be folded."""
    plain, ours = (
        KafkaSettings(bootstrap=bootstrap, prefix=f"{kind}-{size}-{who}.")
        for who in ("plain", "ours")
    )
    for kafka in (plain, ours):
        with topics(kafka) as found:
            found.create(found.wanted(1))
    sites = {0: [_stormy()]} if kind == STORM else _quiet(1)
    beside = await _drained(_plain(plain), plain, kind, size)
    folded = await _drained(_worker(ours, sites), ours, kind, size)
    return {
        "folded_per_cpu_s": round(folded[0]),
        "core_share": round(folded[1], 3),
        "plain_faust_per_cpu_s": round(beside[0]),
        "times_plain_faust": round(beside[0] / folded[0], 2),
    }


async def _drained(started: Any, kafka: KafkaSettings, kind: str, size: int) -> tuple[float, float]:  # noqa: ANN401
    """Return events per processor second of this process, and its share of a core.

    The ticks among the frames are work and no events.
    """
    async with started as counted:
        words = ["-m", __name__, kafka.bootstrap, kafka.prefix, str(size), kind]
        producer = await asyncio.create_subprocess_exec(
            sys.executable, *words, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE
        )
        appended = asyncio.create_task(producer.communicate())
        begins = counted() + 10  # Ticks of its own may come before.
        cpu_s, start_s = time.process_time(), time.monotonic()
        async with asyncio.timeout(BACKLOG_S):
            while counted() < begins:
                cpu_s, start_s = time.process_time(), time.monotonic()
                await asyncio.sleep(0.01)
            events, end = map(int, (await appended)[0].split())
            while counted() < end:  # noqa: ASYNC110 - a count
                await asyncio.sleep(0.01)
        spent_s = time.process_time() - cpu_s
        return events / spent_s, spent_s / (time.monotonic() - start_s)


Counted = Callable[[], int]


async def _measured(started: Any, kafka: KafkaSettings, size: int) -> tuple[float, float]:  # noqa: ANN401
    """Return events per processor second of this process, and its share of a core."""
    async with started as counted:
        command = [sys.executable, "-m", __name__, kafka.bootstrap, kafka.prefix, str(size)]
        process = subprocess.Popen(command, cwd=Path(__file__).parents[1])  # noqa: ASYNC220, S603
        try:
            before = counted()
            while counted() < before + WARM_S * PER_S[size] / size:  # noqa: ASYNC110 - a count
                await asyncio.sleep(0.05)
            count, cpu_s, start_s = counted(), time.process_time(), time.monotonic()
            await asyncio.sleep(SECONDS)
            events = (counted() - count) * size
            spent_s = time.process_time() - cpu_s
            return events / spent_s, spent_s / (time.monotonic() - start_s)
        finally:
            process.kill()
            process.wait()


@asynccontextmanager
async def _plain(kafka: KafkaSettings) -> AsyncIterator[Counted]:
    app = make_app(kafka, "plain", "bench.plain", None)
    seen = [0]

    async def counted(stream: Any) -> None:  # noqa: ANN401 - Faust's
        async for _ in stream.events():
            seen[0] += 1

    app.agent(app.topic(kafka.named(LOG), value_type=bytes), name="count")(cast("Any", counted))
    await app.start()
    try:
        yield lambda: seen[0]
    finally:
        await app.stop()


def _quiet(partitions: int) -> dict[int, list[Site]]:
    rules, names = load_pack(PACK), load.entities(1_000)
    topology = load.topology(names)
    return {
        number: [Site(f"bench-{number}" if number else "bench", topology, rules, owner="bench")]
        for number in range(partitions)
    }


def _stormy() -> Site:
    return Site("bench", storm().topology, storm().rules, owner="bench")


@asynccontextmanager
async def _worker(
    kafka: KafkaSettings, sites: dict[int, list[Site]], group: str = "bench"
) -> AsyncIterator[Counted]:
    log = KafkaLog(kafka)
    hooks = Hooks(lambda _: None, lambda _: None, spare_collections)
    running = Worker(WorkerSettings(kafka, sites, "bench", group), log, log, hooks)
    task = asyncio.create_task(running.run())
    while len([one for one in running.shells().values() if one.may_speak]) < len(sites):  # noqa: ASYNC110 - begins
        await asyncio.sleep(0.05)
    try:
        yield lambda: running.shells()[0].published + 1
    finally:
        running.stop()
        await task
        await log.close()


async def _produce(kafka: KafkaSettings, size: int) -> None:
    """Append frames at a steady pace until killed."""
    log, number, started_s, per_s = KafkaLog(kafka), 0, time.monotonic(), PER_S[size] / size
    values = _values(size)
    while True:
        ahead_s = number / per_s - (time.monotonic() - started_s)
        await asyncio.sleep(max(0.0, ahead_s))
        some = [Message("bench", value) for value in islice(values, max(1, round(per_s / 100)))]
        number += len(some)
        await log.append(LOG, some)


async def _produce_all(kafka: KafkaSettings, size: int, kind: str) -> None:
    """Append a backlog as fast as it is taken; print how many events, and the offset after it."""
    log = KafkaLog(kafka)
    if kind == STORM:
        end = await _produce_storm(kafka, size)
        sys.stdout.write(f"{len(storm().events)} {end}")
        return
    values = list(islice(_values(size), BACKLOG_EVENTS[size] // size))
    end = 0
    for at in range(0, len(values), AT_ONCE):
        some = [Message("bench", value) for value in values[at : at + AT_ONCE]]
        end = await log.append(LOG, some) + len(some)
    await log.close()
    sys.stdout.write(f"{len(values) * size} {end}")


async def _produce_storm(kafka: KafkaSettings, size: int) -> int:
    """Append the storm with stamps of its own, from now on; return the offset after it."""
    written = list(with_ticks(storm(), frames(storm(), size), epoch=0))
    name, later_us = kafka.named(LOG), time.time_ns() // 1_000 - written[0][0]
    admin = KafkaAdminClient(**client_options(kafka))
    stamps = {"message.timestamp.type": "CreateTime"}
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, stamps)])
    admin.close()
    producer = AIOKafkaProducer(**client_options(kafka), enable_idempotence=True, acks="all")
    await producer.start()
    sent = [
        await producer.send(name, value, b"bench", 0, (log_us + later_us) // 1_000)
        for log_us, value in written
    ]
    end: int = (await sent[-1]).offset + 1
    await producer.stop()
    return end


def _values(size: int) -> Iterator[bytes]:
    names, boot = load.entities(1_000), f"collector:h0/{os.getpid()}".encode()
    for number in count():
        yield frame(number, size, names).replace(b"collector:h0/b1", boot)


# ---- latency -------------------------------------------------------------------------------


async def _latency(bootstrap: str, per_s: int) -> Figures:
    """Return milliseconds from a frame appended to the answer to a command in it readable."""
    kafka = KafkaSettings(bootstrap=bootstrap, prefix=f"late-{per_s}.")
    site = await made_site(kafka, domains=1, partitions=1)
    process = WorkerProcess(site, "bench")
    log = KafkaLog(kafka)
    sent_s: dict[str, float] = {}
    waited_s: list[float] = []
    async with running(process):
        await speaking(site)
        listening = asyncio.create_task(_listen(log, sent_s, waited_s))
        await _ask(log, per_s, sent_s)
        await asyncio.sleep(1.0)
        listening.cancel()
        await log.close()
    taken = waited_s[len(waited_s) // 4 :]  # What came first was slowed by the start.
    return {
        "asked": len(sent_s),
        "answered": len(waited_s),
        **{f"p{share}_ms": milliseconds(taken, share / 100) for share in (50, 95, 99)},
    }


async def _ask(log: KafkaLog, per_s: int, sent_s: dict[str, float]) -> None:
    names, size = load.entities(1_000), 10
    started_s, number = time.monotonic(), 0
    appends: set[Awaitable[Any]] = set()

    async def one(number: int) -> None:
        document = json.loads(frame(number, size, names))
        name = f"{ASKED}{number}"
        document["domain"] = "pod-0"
        document["inputs"][0] = {"type": "command", "command": "maintenance_end", "target": name}
        await log.append(LOG, [Message("pod-0", json.dumps(document).encode())])
        sent_s[name] = time.monotonic()

    while time.monotonic() - started_s < WARM_S + SECONDS:
        ahead_s = number * size / per_s - (time.monotonic() - started_s)
        await asyncio.sleep(max(0.0, ahead_s))
        appends.add(asyncio.create_task(one(number)))
        number += 1
    await asyncio.gather(*appends)


async def _listen(log: KafkaLog, sent_s: dict[str, float], waited_s: list[float]) -> None:
    async for records in log.read(DECISIONS, 0):
        now_s = time.monotonic()
        waited_s += [now_s - sent_s[one.key] for one in records if one.key in sent_s]


def _main(bootstrap: str, prefix: str, size: str, kind: str = "") -> None:
    kafka = KafkaSettings(bootstrap=bootstrap, prefix=prefix)
    asyncio.run(_produce_all(kafka, int(size), kind) if kind else _produce(kafka, int(size)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
