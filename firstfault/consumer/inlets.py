"""Where a consumer reads actions from and appends its answers to: any `Log`, or Kafka.

Both read from the place that the ledger remembers, one after the other, and never skip: where that
place is no longer kept, reading ends with a sentence. No consumer group: whoever takes over the
partitions of another would not have its ledger, and could do again what was done.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from firstfault.log import Log, LogError, Message, OffsetGoneError, Record
from firstfault.log.kafka_settings import client_options
from schemas.kafka import KafkaSettings

APPEND_S = 10.0
"""How long an append may take: the `request` time-outs of the Kafka notes."""
BATCH_MAX = 500
"""Records taken at a time."""

R = TypeVar("R")
Place = Callable[[str, int], int | None]
"""Topic and partition → offset to read next; None: from the first that is kept."""


@dataclass(frozen=True)
class Came:
    """A record, and where it stood."""

    partition: int
    record: Record


class Inlet(Protocol):
    """Reads one topic and appends to others; used from one thread."""

    def open(self, topic: str, place: Place) -> None:
        """Begin to read a topic, all its partitions."""
        ...

    def poll(self, timeout_s: float) -> list[Came]:
        """Return what has come, in order, waiting so long for the first.

        Raises:
            LogError: it can never be read on, e.g. what was to come is no longer kept.
        """
        ...

    def append(self, topic: str, partition: int, message: Message) -> int:
        """Append a message; return the stamp it was given, microseconds since 1970.

        Raises:
            LogError: it may or may not have been appended.
        """
        ...

    def close(self) -> None:
        """Let go."""
        ...


class LogInlet:
    """Any log, driven from a thread of its own; the log is closed with it."""

    def __init__(self, make: Callable[[], Log], partitions: int = 1) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="inlet", daemon=True)
        self._thread.start()
        self._log = self._wait(self._made(make))
        self._partitions = partitions
        self._came: queue.Queue[list[Came] | LogError] = queue.Queue(4)
        self._closing = threading.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def open(self, topic: str, place: Place) -> None:
        """See `Inlet.open`."""
        places = {number: place(topic, number) for number in range(self._partitions)}
        self._wait(self._begin(topic, places))

    def poll(self, timeout_s: float) -> list[Came]:
        """See `Inlet.poll`."""
        try:
            came = self._came.get(timeout=timeout_s)
        except queue.Empty:
            return []
        if isinstance(came, LogError):
            raise came
        return came

    def append(self, topic: str, partition: int, message: Message) -> int:
        """See `Inlet.append`."""
        return self._wait(self._appended(topic, partition, message))

    def close(self) -> None:
        """See `Inlet.close`."""
        self._closing.set()
        with suppress(LogError):
            self._wait(self._ended())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(APPEND_S)
        self._loop.close()

    # ---- in the thread of the loop ---------------------------------------------------------

    async def _made(self, make: Callable[[], Log]) -> Log:
        return make()

    async def _begin(self, topic: str, places: dict[int, int | None]) -> None:
        for partition, offset in places.items():
            start = (await self._log.span(topic, partition)).first if offset is None else offset
            self._tasks.append(asyncio.create_task(self._read(topic, partition, start)))

    async def _read(self, topic: str, partition: int, offset: int) -> None:
        try:
            async for records in self._log.read(topic, offset, partition):
                await self._hand([Came(partition, record) for record in records])
        except LogError as error:
            await self._hand(error)

    async def _hand(self, came: list[Came] | LogError) -> None:
        """Hand on what came; a slow consumer is waited for, so nothing piles up."""
        while not self._closing.is_set():
            try:
                self._came.put_nowait(came)
            except queue.Full:
                await asyncio.sleep(0.002)
            else:
                return

    async def _appended(self, topic: str, partition: int, message: Message) -> int:
        offset = await self._log.append(topic, [message], partition)
        async for records in self._log.read(topic, offset, partition):
            return records[0].log_us
        raise AssertionError  # A log is read for ever.

    async def _ended(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._log.close()

    def _wait(self, asked: Coroutine[Any, Any, R]) -> R:
        try:
            return asyncio.run_coroutine_threadsafe(asked, self._loop).result(APPEND_S)
        except TimeoutError:
            msg = f"the log did not answer within {APPEND_S:g} s"
            raise LogError(msg) from None


class KafkaInlet:
    """Kafka, by kafka-python: partitions are assigned by hand, places are those of the ledger."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        options = client_options(settings)
        with _told(settings):
            from kafka import KafkaConsumer, KafkaProducer  # noqa: PLC0415 - only who needs it

            self._consumer = KafkaConsumer(
                **options,
                enable_auto_commit=False,
                auto_offset_reset="none",
                fetch_max_wait_ms=20,
                max_poll_records=BATCH_MAX,
            )
            self._producer = KafkaProducer(
                **options, acks="all", enable_idempotence=True, linger_ms=0
            )

    def open(self, topic: str, place: Place) -> None:
        """See `Inlet.open`."""
        from kafka import TopicPartition  # noqa: PLC0415

        name = self._settings.named(topic)
        with _told(self._settings):
            numbers = self._consumer.partitions_for_topic(name)
            if not numbers:
                msg = f"{name}: no such topic; `firstfault topics create` makes it"
                raise LogError(msg)
            partitions = {number: TopicPartition(name, number) for number in sorted(numbers)}
            self._consumer.assign(list(partitions.values()))
            firsts = self._consumer.beginning_offsets(list(partitions.values()))
            for number, partition in partitions.items():
                offset = place(topic, number)
                self._consumer.seek(partition, firsts[partition] if offset is None else offset)

    def poll(self, timeout_s: float) -> list[Came]:
        """See `Inlet.poll`."""
        from kafka.errors import NoOffsetForPartitionError, OffsetOutOfRangeError  # noqa: PLC0415

        try:
            with _told(self._settings):
                found = self._consumer.poll(timeout_ms=round(timeout_s * 1000))
        except LogError as error:
            if isinstance(error.__cause__, OffsetOutOfRangeError | NoOffsetForPartitionError):
                msg = f"{error.__cause__}: actions were dropped that this consumer has not seen"
                raise OffsetGoneError(msg) from error
            raise
        return [_came(one) for records in found.values() for one in records]

    def append(self, topic: str, partition: int, message: Message) -> int:
        """See `Inlet.append`."""
        with _told(self._settings):
            sent = self._producer.send(
                self._settings.named(topic),
                message.value,
                key=message.key.encode(),
                partition=partition,
            )
            return int(sent.get(APPEND_S).timestamp) * 1000

    def close(self) -> None:
        """See `Inlet.close`."""
        with suppress(LogError), _told(self._settings):
            self._consumer.close()
        with suppress(LogError), _told(self._settings):
            self._producer.close(APPEND_S)


def _came(found: Any) -> Came:  # noqa: ANN401 - kafka-python has no types
    key = (found.key or b"").decode(errors="replace")
    record = Record(found.offset, found.timestamp * 1000, key, found.value or b"")
    return Came(found.partition, record)


class _told:  # noqa: N801 - a context manager that reads as a word
    """Says what Kafka's library says as a `LogError`."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._bootstrap = settings.bootstrap

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from kafka.errors import KafkaError  # noqa: PLC0415

        if isinstance(error, KafkaError):
            msg = f"{self._bootstrap}: {type(error).__name__}: {error}"
            raise LogError(msg) from error
