"""The log on Kafka beside plain aiokafka, on a broker of its own (Java, see `tests/kafka`).

Events per second of this process's own CPU; the broker runs beside it on the same cores, so nothing
here says what a cluster can do. Latencies are of one append after the other.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench import load
from bench.clock import Figures
from bench.local_log import AT_ONCE, frame
from firstfault.log import Message, Record, between
from firstfault.log.kafka import KafkaLog
from firstfault.log.kafka_settings import client_options
from firstfault.log.kafka_topics import topics
from schemas.kafka import KafkaSettings
from schemas.topics import LOG
from tests.kafka.cluster import Cluster

EVENTS = 200_000
FRAMES = (10, 50)
SINGLE = 500
"""Appends of one message, one after the other, for the latency."""
IDLE_S = 5.0


def kafka_log() -> Figures:
    """Return events per CPU second, ours and plain, for each size of a frame; and latencies."""
    names = load.entities(1_000)
    figures: Figures = {"events": EVENTS}
    with Cluster() as cluster:
        for size in FRAMES:
            values = [frame(number, size, names) for number in range(EVENTS // size)]
            ours = asyncio.run(_ours(_made(cluster, f"ours-{size}."), values))
            plain = asyncio.run(_plain(_made(cluster, f"plain-{size}."), values))
            figures[f"frames_of_{size}"] = {
                "appended_per_cpu_s": round(EVENTS / ours[0]),
                "read_per_cpu_s": round(EVENTS / ours[1]),
                "appended_times_plain_cpu": round(ours[0] / plain[0], 2),
                "read_times_plain_cpu": round(ours[1] / plain[1], 2),
            }
        figures |= asyncio.run(_alone(_made(cluster, "alone.")))
    return figures


def _made(cluster: Cluster, prefix: str) -> KafkaSettings:
    settings = KafkaSettings(bootstrap=cluster.bootstrap, prefix=prefix)
    with topics(settings) as there:
        there.create(there.wanted(1))
    return settings


async def _cpu_s(work: Awaitable[object]) -> float:
    begun_s = time.process_time()
    await work
    return time.process_time() - begun_s


async def _all(values: list[bytes], append: Callable[[bytes], Awaitable[object]]) -> None:
    """Append values, as many at once as many collectors would."""
    waiting = asyncio.Semaphore(AT_ONCE)

    async def one(value: bytes) -> None:
        async with waiting:
            await append(value)

    await asyncio.gather(*map(one, values))


async def _ours(settings: KafkaSettings, values: list[bytes]) -> tuple[float, float]:
    log = KafkaLog(settings)
    appended_s = await _cpu_s(_all(values, lambda one: log.append(LOG, [Message("bench", one)])))

    async def read() -> None:
        async for _ in between(log, LOG, await log.span(LOG)):
            pass

    read_s = await _cpu_s(read())
    await log.close()
    return appended_s, read_s


async def _plain(settings: KafkaSettings, values: list[bytes]) -> tuple[float, float]:
    topic, options = settings.named(LOG), client_options(settings)
    producer = AIOKafkaProducer(**options, enable_idempotence=True, linger_ms=2)
    await producer.start()
    appended_s = await _cpu_s(
        _all(values, lambda one: producer.send_and_wait(topic, one, b"bench", partition=0))
    )
    await producer.stop()
    consumer = AIOKafkaConsumer(**options, auto_offset_reset="none", enable_auto_commit=False)
    await consumer.start()
    place = TopicPartition(topic, 0)
    consumer.assign([place])
    consumer.seek(place, 0)

    async def read() -> None:
        left = len(values)
        while left:
            found = await consumer.getmany(timeout_ms=1_000)
            left -= len(found.get(place, ()))

    read_s = await _cpu_s(read())
    await consumer.stop()
    return appended_s, read_s


async def _alone(settings: KafkaSettings) -> Figures:
    """Return how long one message takes to be acknowledged and read, and what waiting costs."""
    log = KafkaLog(settings)
    await log.append(LOG, [Message("bench", b"first")])
    seen: asyncio.Queue[Record] = asyncio.Queue()

    async def reader() -> None:
        async for records in log.read(LOG, 1):
            for one in records:
                seen.put_nowait(one)

    reading = asyncio.create_task(reader())
    await asyncio.sleep(1.0)
    idle_s = await _cpu_s(asyncio.sleep(IDLE_S))
    acknowledged_ms, read_ms = [], []
    for _ in range(SINGLE):
        begun_s = time.perf_counter()
        appending = asyncio.create_task(log.append(LOG, [Message("bench", b"x")]))
        await seen.get()
        read_ms.append((time.perf_counter() - begun_s) * 1e3)
        await appending
        acknowledged_ms.append((time.perf_counter() - begun_s) * 1e3)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await log.close()
    return {
        "acknowledged_ms": _quantiles(acknowledged_ms),
        "read_ms": _quantiles(read_ms),
        "idle_reader_cpu_percent": round(100 * idle_s / IDLE_S, 1),
    }


def _quantiles(given: list[float]) -> dict[str, float]:
    found = sorted(given)
    return {
        name: round(found[int(share * (len(found) - 1))], 1)
        for name, share in (("p50", 0.5), ("p99", 0.99))
    }
