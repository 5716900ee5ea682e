"""What every log must do, whoever keeps it: stories that each implementation is told.

`tests/log` tells them to the local log, `tests/kafka` to a real broker. Each begins on a log that
no other story has written to.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import pytest

from firstfault.log import Log, LogError, Message, OffsetGoneError, Record
from schemas.topics import LOG as TOPIC
from schemas.topics import MESSAGE_BYTES_MAX

PATIENCE_S = 60.0
SECOND_US = 1_000_000

Story = Callable[[Log], Awaitable[None]]


async def told(log: Log, story: Story) -> None:
    """Tell a log a story, and close it."""
    try:
        await asyncio.wait_for(story(log), PATIENCE_S)
    finally:
        await log.close()


def messages(*values: str) -> list[Message]:
    return [Message("pod-1", value.encode()) for value in values]


async def first(log: Log, count: int, offset: int | None = None) -> list[Record]:
    """Return so many records, from an offset or from the first that is kept."""
    found: list[Record] = []
    start = (await log.span(TOPIC)).first if offset is None else offset
    async for records in log.read(TOPIC, start):
        found += records
        if len(found) >= count:
            break
    return found


def values(records: Sequence[Record]) -> list[str]:
    return [one.value.decode() for one in records]


async def what_is_appended_is_read_in_order_with_offsets_that_count_up(log: Log) -> None:
    begun = await log.append(TOPIC, messages("a", "b"))
    assert await log.append(TOPIC, messages("c")) == begun + 2
    records = await first(log, 3)
    assert values(records) == ["a", "b", "c"]
    assert [one.offset for one in records] == [begun, begun + 1, begun + 2]
    assert {one.key for one in records} == {"pod-1"}
    assert (await log.span(TOPIC)).end == begun + 3


async def each_message_bears_the_time_of_its_append(log: Log) -> None:
    begun_us = time.time_ns() // 1000
    for value in "abc":
        await log.append(TOPIC, messages(value))
    stamps = [one.log_us for one in await first(log, 3)]
    assert stamps == sorted(stamps)
    # Kafka counts in milliseconds, and a broker may have a clock of its own.
    assert begun_us - SECOND_US < stamps[0] <= stamps[-1] < time.time_ns() // 1000 + SECOND_US


async def many_who_append_at_once_lose_nothing_and_each_keeps_its_order(log: Log) -> None:
    async def one(name: str) -> None:
        for number in range(50):
            await log.append(TOPIC, messages(f"{name}{number}"))

    await asyncio.gather(*(one(name) for name in "abcd"))
    found = values(await first(log, 200))
    for name in "abcd":
        own = [value for value in found if value.startswith(name)]
        assert own == [f"{name}{number}" for number in range(50)]


async def what_is_appended_together_stays_together(log: Log) -> None:
    names, large = "abcdefgh", "x" * 20_000
    batches = [messages(*(f"{name}{number}{large}" for number in range(30))) for name in names]
    begun = await asyncio.gather(*(log.append(TOPIC, batch) for batch in batches))
    records = await first(log, 8 * 30)
    found = {one.offset: one.value[:3].decode().rstrip("x") for one in records}
    for name, offset in zip(names, begun, strict=True):
        together = [found[offset + number] for number in range(30)]
        assert together == [f"{name}{number}" for number in range(30)]


async def appends_that_do_not_wait_for_each_other_keep_their_order(log: Log) -> None:
    tasks = [asyncio.create_task(log.append(TOPIC, messages(str(number)))) for number in range(300)]
    begun = await asyncio.gather(*tasks)
    assert begun == sorted(begun)
    assert values(await first(log, 300)) == [str(number) for number in range(300)]


async def two_readers_each_see_all_also_what_comes_later(log: Log) -> None:
    start = (await log.span(TOPIC)).end
    readers = [asyncio.create_task(first(log, 3, start)) for _ in range(2)]
    await log.append(TOPIC, messages("a"))
    await asyncio.sleep(0.02)
    await log.append(TOPIC, messages("b", "c"))
    for found in await asyncio.gather(*readers):
        assert values(found) == ["a", "b", "c"]


async def an_offset_that_was_never_given_is_an_error(log: Log) -> None:
    for number in range(20):
        await log.append(TOPIC, messages(f"{number:04}"))
    with pytest.raises(OffsetGoneError, match="is not kept"):
        await first(log, 1, (await log.span(TOPIC)).end + 1)


async def a_reader_at_the_end_waits_for_what_comes(log: Log) -> None:
    await log.append(TOPIC, messages("old"))
    reader = asyncio.create_task(first(log, 1, (await log.span(TOPIC)).end))
    await asyncio.sleep(0.3)
    assert not reader.done()
    await log.append(TOPIC, messages("new"))
    assert values(await reader) == ["new"]


async def a_slow_reader_gets_all_in_pieces(log: Log) -> None:
    await log.append(TOPIC, messages(*map(str, range(2_500))))
    sizes: list[int] = []
    found: list[str] = []
    async for records in log.read(TOPIC, (await log.span(TOPIC)).first):
        sizes.append(len(records))
        found += values(records)
        await asyncio.sleep(0.01)
        if len(found) == 2_500:
            break
    assert max(sizes) <= 1_000
    assert found == [str(number) for number in range(2_500)]


async def what_is_empty_or_too_long_is_refused_and_the_log_goes_on(log: Log) -> None:
    with pytest.raises(LogError, match="nothing to append"):
        await log.append(TOPIC, [])
    with pytest.raises(LogError, match="over 1048576"):
        await log.append(TOPIC, messages("before", "x" * 10_000_000))
    longest = "x" * MESSAGE_BYTES_MAX
    await log.append(TOPIC, messages(longest, longest))
    assert values(await first(log, 2)) == [longest, longest]


async def a_partition_that_is_not_there_is_an_error(log: Log) -> None:
    with pytest.raises(LogError, match="7"):
        await log.append(TOPIC, messages("a"), partition=7)
    with pytest.raises(LogError, match="7"):
        await log.span(TOPIC, partition=7)


async def a_closed_log_says_so_to_whoever_appends(log: Log) -> None:
    await log.append(TOPIC, messages("a"))
    await log.close()
    with pytest.raises(LogError, match="closed"):
        await log.append(TOPIC, messages("b"))


CONTRACT: tuple[Story, ...] = (
    what_is_appended_is_read_in_order_with_offsets_that_count_up,
    each_message_bears_the_time_of_its_append,
    many_who_append_at_once_lose_nothing_and_each_keeps_its_order,
    what_is_appended_together_stays_together,
    appends_that_do_not_wait_for_each_other_keep_their_order,
    two_readers_each_see_all_also_what_comes_later,
    an_offset_that_was_never_given_is_an_error,
    a_reader_at_the_end_waits_for_what_comes,
    a_slow_reader_gets_all_in_pieces,
    what_is_empty_or_too_long_is_refused_and_the_log_goes_on,
    a_partition_that_is_not_there_is_an_error,
    a_closed_log_says_so_to_whoever_appends,
)
