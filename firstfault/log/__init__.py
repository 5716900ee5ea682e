"""The log that everything is read from and written to: one protocol, two implementations.

Used by correlator, collectors and actuators alike. `local` keeps it in one SQLite file, for a site
without a broker; `kafka` on Apache Kafka. `tests/log` holds what both must do.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol, cast

from schemas.topics import MESSAGE_BYTES_MAX


class LogError(Exception):
    """The log cannot do what was asked, and nothing of it was done; one sentence says why."""


class OffsetGoneError(LogError):
    """What was asked for is no longer kept: who reads on would skip what nobody has read."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a topic, as its producer gave it."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """One message with the place and the time that the log gave it."""

    offset: int
    """Counts up by one in its partition; what is read once is there for every reader."""
    log_us: int
    """When it was appended, microseconds since 1970; never before that of the offset before."""
    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Span:
    """The offsets that are kept: from `first` up to, not including, `end`."""

    first: int
    end: int


class Log(Protocol):
    """An ordered, durable log of topics, each of one or more partitions."""

    async def append(self, topic: str, messages: Sequence[Message], partition: int = 0) -> int:
        """Append messages one after the other; return the offset of the first.

        They are durable when this returns, and can be read from then on, not before.

        Raises:
            LogError: they were not acknowledged. A file then holds nothing of them; a cluster whose
                answer was lost may.
        """
        ...

    async def prepare(self, topics: Sequence[str], partition: int = 0) -> None:
        """Make ready to append, so that the first append to a topic is as fast as the next.

        Raises:
            LogError: a topic is not there.
        """
        ...

    def read(self, topic: str, offset: int, partition: int = 0) -> AsyncIterator[list[Record]]:
        """Yield the records from an offset on, in order, waiting for more for ever.

        Raises:
            OffsetGoneError: the offset is no longer kept, or was never given.
        """
        ...

    async def delete(self, topic: str, keys: Sequence[str], partition: int = 0) -> None:
        """Drop the messages of some keys of a compacted topic; sooner or later they are gone.

        Raises:
            LogError: nothing may have been dropped.
        """
        ...

    async def span(self, topic: str, partition: int = 0) -> Span:
        """Return which offsets are kept now."""
        ...

    async def close(self) -> None:
        """Write what waits, and let go."""
        ...


async def between(
    log: Log, topic: str, span: Span, partition: int = 0, *, quiet_s: float | None = None
) -> AsyncIterator[list[Record]]:
    """Yield the records of some offsets, and end.

    quiet_s: end too when nothing comes for so long: compaction leaves holes, at the end as well.

    Raises:
        OffsetGoneError: the first is no longer kept, or was never given.
    """
    if span.first >= span.end:
        return
    reading = cast("AsyncGenerator[list[Record], None]", log.read(topic, span.first, partition))
    async with aclosing(reading):
        while True:
            try:
                records = await asyncio.wait_for(anext(reading), quiet_s)
            except TimeoutError:
                return
            yield [one for one in records if one.offset < span.end]
            if records[-1].offset >= span.end - 1:
                return


def check_messages(topic: str, messages: Sequence[Message]) -> None:
    """Make sure that messages can be appended, in any log.

    Raises:
        LogError: they cannot.
    """
    if not messages:
        raise LogError("there is nothing to append")
    for message in messages:
        try:
            message.key.encode()
        except UnicodeEncodeError as error:
            msg = f"{topic}: the key {message.key!r} cannot be written; nothing was appended"
            raise LogError(msg) from error
    size_bytes = max(len(message.value) for message in messages)
    if size_bytes > MESSAGE_BYTES_MAX:
        msg = f"{topic}: a message of {size_bytes} bytes is over {MESSAGE_BYTES_MAX}"
        raise LogError(f"{msg}; nothing was appended")
