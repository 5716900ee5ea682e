"""The log on Apache Kafka: appended by an idempotent producer, read by offset, never by group.

Everything is acknowledged by all replicas in sync before `append` returns. Offsets that are gone
are an error; nothing is reset, nothing is skipped. Readers wait out an outage of any length. The
stamps are the broker's, in milliseconds; those of a new leader may be behind the old one's.

aiokafka 0.14: its producer stays out of step with the broker once a batch has failed (its numbers
have a gap: github.com/aio-libs/aiokafka/issues/1017), and its refresh of metadata was seen to die.
So a producer that failed is given up, and a reader that hears nothing asks whether it should have.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAuthorizationFailedError

from firstfault.log import (
    LogError,
    Message,
    OffsetGoneError,
    Record,
    Span,
    check_messages,
)
from firstfault.log.kafka_settings import UNREACHED, client_options
from schemas.kafka import KafkaSettings
from schemas.topics import MESSAGE_BYTES_MAX

APPEND_S = 120.0
"""How long an append is tried; Kafka's own bound (delivery.timeout.ms) has this default."""
REQUEST_S = 10.0
"""How long a broker may take to answer before another is asked who leads."""
LINGER_MS = 2
"""How long a batch waits for company: a burst of frames leaves in one request."""
BATCH_BYTES = 262_144
"""Of one request to a partition: some twenty frames of fifty inputs."""
ENVELOPE_BYTES = 65_536
"""Room for the key and what else a message takes beside its value."""
FETCH_WAIT_MS = 500
"""How long a broker keeps a request for which it has nothing; what comes is answered at once. A
short wait matters where one consumer reads many partitions; here each reader has one, and 20 ms
took 2.5 % of a core to hear nothing, with the same latency (`python -m bench kafka_log`)."""
READ_MAX = 1_000
"""Records read at a time."""
QUIET_S = 5.0
"""A reader that hears nothing for so long asks whether there is something to hear."""
SPAN_S = 30.0
"""How long it is tried to learn which offsets are kept."""
AHEAD_S = 2.0
"""A leader that has just come back may know less than it will: so long it may look as if an offset
was never given."""
NEW_TOPIC_S = 3.0
"""How long a topic may take to be known once it is made."""
AGAIN_S = 0.2
"""Pause before something is asked again."""
CLOSE_S = 10.0
"""How long what waits may take to leave when a log is closed."""
CLOSED = "the log is closed; nothing was appended"

_Client = Any
"""Of aiokafka, which comes without types; None where there is none."""
Sending = Coroutine[None, None, int]
_LOGGER = logging.getLogger(__name__)


class KafkaLog:
    """A log on a cluster; made inside the event loop that uses it.

    append_s: how long an append is tried before it is a `LogError`.
    """

    def __init__(self, settings: KafkaSettings, *, append_s: float = APPEND_S) -> None:
        self.settings = settings
        self._options = {**client_options(settings), "request_timeout_ms": round(REQUEST_S * 1e3)}
        self._append_s = append_s
        self._producer: _Producer | None = None
        self._asker: _Client = None
        self._starting = asyncio.Lock()
        self._known: set[TopicPartition] = set()
        self._closed = False

    async def append(self, topic: str, messages: Sequence[Message], partition: int = 0) -> int:
        """See `Log.append`; after a `LogError` a message may be there all the same."""
        check_messages(topic, messages)
        place = TopicPartition(self.settings.named(topic), partition)
        return await self._produced(place, lambda producer: self._sent(producer, place, messages))

    async def prepare(self, topics: Sequence[str], partition: int = 0) -> None:
        """See `Log.prepare`: aiokafka learns where a topic is when it first sends, in 100 ms."""
        places = [TopicPartition(self.settings.named(topic), partition) for topic in topics]
        for place in places:
            await self._produced(place, partial(self._located, place))

    async def read(
        self, topic: str, offset: int, partition: int = 0
    ) -> AsyncIterator[list[Record]]:
        """See `Log.read`."""
        place = TopicPartition(self.settings.named(topic), partition)
        while True:
            try:
                await self._check_kept(place, offset)
                async with self._consumer() as consumer:
                    consumer.assign([place])
                    consumer.seek(place, offset)
                    async for records in _heard(consumer, place):
                        offset = records[-1].offset + 1
                        yield records
            except TopicAuthorizationFailedError as error:
                raise LogError(_said(place, error)) from error
            except (KafkaError, TimeoutError) as error:
                _LOGGER.info("%s: reading again from %d: %r", place, offset, error)
            await asyncio.sleep(AGAIN_S)

    async def delete(self, topic: str, keys: Sequence[str], partition: int = 0) -> None:
        """See `Log.delete`: a message without a value says that its key is over."""
        await self.append(topic, [Message(key, b"") for key in keys], partition)

    async def span(self, topic: str, partition: int = 0) -> Span:
        """See `Log.span`."""
        place = TopicPartition(self.settings.named(topic), partition)
        end_s = time.monotonic() + SPAN_S
        while True:
            try:
                return await self._span(place)
            except (KafkaError, TimeoutError) as error:
                is_final = isinstance(error, TopicAuthorizationFailedError)
                if is_final or time.monotonic() > end_s:
                    raise LogError(_said(place, error)) from error
            await asyncio.sleep(AGAIN_S)

    async def close(self) -> None:
        """See `Log.close`."""
        self._closed = True
        await self._ask_no_more(self._asker)
        if self._producer is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._producer.client.flush(), CLOSE_S)
            await self._give_up(self._producer)

    # ---- what is asked, and of whom ------------------------------------------------------------

    async def _produced(self, place: TopicPartition, do: "Callable[[_Producer], Sending]") -> int:
        """Do something with the producer; give it up where that fails."""
        producer = None
        try:
            async with asyncio.timeout(self._append_s):
                producer = await self._started()
                return await producer.unless_lost(do(producer))
        except (KafkaError, TimeoutError) as error:
            self._known.discard(place)
            await self._give_up(producer)
            raise LogError(_said(place, error)) from error

    async def _located(self, place: TopicPartition, producer: "_Producer") -> int:
        """Let a producer learn who leads the partitions of a topic; return how many there are."""
        await self._check_there(producer.client.client, place)
        return len(await producer.client.partitions_for(place.topic))

    async def _sent(
        self, producer: "_Producer", place: TopicPartition, messages: Sequence[Message]
    ) -> int:
        """Send messages one after the other; return the offset of the first once all are safe."""
        async with producer.turns[place]:
            await self._check_there(producer.client.client, place)
            sent = [
                await producer.client.send(
                    place.topic, one.value or None, one.key.encode(), partition=place.partition
                )
                for one in messages
            ]
        acknowledged = await asyncio.gather(*sent)
        first: int = acknowledged[0].offset
        return first

    async def _span(self, place: TopicPartition) -> Span:
        asker = await self._asking()
        try:
            await self._check_there(asker._client, place)  # noqa: SLF001 - producers show theirs
            first = await asker.beginning_offsets([place])
            end = await asker.end_offsets([place])
        except (KafkaError, TimeoutError):
            await self._ask_no_more(asker)
            raise
        return Span(first[place], end[place])

    async def _check_kept(self, place: TopicPartition, offset: int) -> None:
        end_s = time.monotonic() + AHEAD_S
        while True:
            span = await self._span(place)
            if span.first <= offset <= span.end:
                return
            if offset < span.first or time.monotonic() > end_s:
                what = f"{place.topic}/{place.partition}: offset {offset} is not kept"
                msg = f"{what}, only {span.first} to {span.end - 1}"
                raise OffsetGoneError(msg)
            await asyncio.sleep(AGAIN_S)

    async def _check_there(self, client: _Client, place: TopicPartition) -> None:
        end_s = time.monotonic() + NEW_TOPIC_S
        while place not in self._known:
            cluster = await client.fetch_all_metadata()
            if place.partition in (cluster.partitions_for_topic(place.topic) or ()):
                self._known.add(place)
            elif time.monotonic() > end_s:
                what = f"{place.topic}/{place.partition} is not there"
                msg = f"{what}; `firstfault topics create` makes it"
                raise LogError(msg)
            else:
                await asyncio.sleep(AGAIN_S)

    # ---- clients -------------------------------------------------------------------------------

    async def _started(self) -> "_Producer":
        """Return the producer, made where there is none."""
        async with self._starting:
            while self._producer is None:
                if self._closed:
                    raise LogError(CLOSED)
                client = await self._new_producer()
                if client is not None:
                    self._producer = _Producer(client)
            return self._producer

    async def _new_producer(self) -> _Client:
        producer = AIOKafkaProducer(
            **self._options,
            enable_idempotence=True,
            acks="all",
            linger_ms=LINGER_MS,
            max_batch_size=BATCH_BYTES,
            max_request_size=MESSAGE_BYTES_MAX + ENVELOPE_BYTES,
        )
        # While nobody leads a partition, a batch would fail after the time of one request, and
        # with it the numbers of all later ones. It is our own bound that ends an append.
        producer._message_accumulator._batch_ttl = self._append_s  # noqa: SLF001
        try:
            await producer.start()
        except KafkaError:
            await _stop(producer)
            await asyncio.sleep(AGAIN_S)
            return None
        except BaseException:
            await _stop(producer)
            raise
        return producer

    async def _give_up(self, producer: "_Producer | None") -> None:
        """Leave a producer with all that it still holds, so that none of it leaves later."""
        if producer is None or producer is not self._producer:
            return
        self._producer = None
        producer.lost.set_result(None)
        # Its own `stop` would first send what waits. All of this is private to aiokafka 0.14.
        sending = producer.client._sender.sender_task  # noqa: SLF001
        sending.cancel()
        await asyncio.wait([sending], timeout=REQUEST_S + CLOSE_S)  # It hears the last answer.
        producer.client._closed = True  # noqa: SLF001
        await producer.client.client.close()

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[_Client]:
        """Run a consumer of no group, that never goes anywhere by itself."""
        consumer = AIOKafkaConsumer(
            **self._options,
            auto_offset_reset="none",
            enable_auto_commit=False,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_poll_records=READ_MAX,
        )
        try:
            await consumer.start()
            yield consumer
        finally:
            await _stop(consumer)

    async def _asking(self) -> _Client:
        """Return the consumer that only asks for offsets, made where there is none."""
        async with self._starting:
            if self._asker is None:
                asker = AIOKafkaConsumer(**self._options, enable_auto_commit=False)
                try:
                    await asker.start()
                except BaseException:
                    await _stop(asker)
                    raise
                self._asker = asker
            return self._asker

    async def _ask_no_more(self, asker: _Client) -> None:
        if asker is not None and asker is self._asker:
            self._asker = None
            await _stop(asker)


class _Producer:
    """A producer, until it is given up."""

    def __init__(self, client: _Client) -> None:
        self.client = client
        self.turns: defaultdict[TopicPartition, asyncio.Lock] = defaultdict(asyncio.Lock)
        """Of each partition, so that the messages of one append stay together."""
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def unless_lost(self, sent: Sending) -> int:
        """Return what comes of sending.

        Raises:
            KafkaError: nothing can come of it any more.
        """
        sending = asyncio.create_task(sent)
        try:
            either: list[asyncio.Future[Any]] = [sending, self.lost]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                raise KafkaError("given up with an earlier append")
            return sending.result()
        finally:
            sending.cancel()


async def _heard(consumer: _Client, place: TopicPartition) -> AsyncIterator[list[Record]]:
    """Yield what comes, until a consumer no longer hears what is there."""
    behind = False
    while True:
        found = await consumer.getmany(place, timeout_ms=round(QUIET_S * 1e3))
        if records := found.get(place):
            behind = False
            yield [_record(one) for one in records]
            continue
        ends = await asyncio.wait_for(consumer.end_offsets([place]), 2 * REQUEST_S)
        if ends[place] > await consumer.position(place):
            if behind:
                return
            behind = True


def _record(given: _Client) -> Record:
    # Whoever may write may send any bytes as a key, or none.
    key = (given.key or b"").decode(errors="replace")
    return Record(given.offset, given.timestamp * 1_000, key, given.value or b"")


async def _stop(client: _Client) -> None:
    """Close a client that holds nothing, also one that cannot reach its broker."""
    # A task of its own: a consumer that ends while it asks for offsets raises the cancellation of
    # its own request, which would pass for ours.
    stopping = asyncio.create_task(client.stop())
    await asyncio.wait([stopping], timeout=CLOSE_S)
    stopping.cancel()
    if stopping.done() and not stopping.cancelled() and stopping.exception() is None:
        return
    if isinstance(client, AIOKafkaConsumer):
        await client._client.close()  # noqa: SLF001 - what `stop` did not come to


def _said(place: TopicPartition, error: Exception) -> str:
    where = f"{place.topic}/{place.partition}"
    match error:
        case TopicAuthorizationFailedError():
            return f"{where}: not allowed by the broker; `firstfault topics plan` prints the rights"
        case KafkaConnectionError():
            return f"{where}: {UNREACHED}"
        case TimeoutError():
            return f"{where}: no answer in time"
        case _:
            return f"{where}: {type(error).__name__}: {error}"
