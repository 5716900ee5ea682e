"""What every log must do, whoever keeps it: the contract that all shells rely on."""

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from firstfault.log import Log, LogError, Message, OffsetGoneError, Record
from firstfault.log.local import Retention, open_local
from schemas.topics import LOG as TOPIC

SECOND_US = 1_000_000

Story = Callable[[Log], Awaitable[None]]


def told(log: Log, story: Story) -> None:
    """Run a story against a log, and close it."""

    async def whole() -> None:
        try:
            await asyncio.wait_for(story(log), 30)
        finally:
            await log.close()

    asyncio.run(whole())


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


def test_what_is_appended_is_read_in_order_with_offsets_that_count_up(tmp_path: Path) -> None:
    async def story(log: Log) -> None:
        begun = await log.append(TOPIC, messages("a", "b"))
        assert await log.append(TOPIC, messages("c")) == begun + 2
        records = await first(log, 3)
        assert [one.value for one in records] == [b"a", b"b", b"c"]
        assert [one.offset for one in records] == [begun, begun + 1, begun + 2]
        assert {one.key for one in records} == {"pod-1"}
        assert (await log.span(TOPIC)).end == begun + 3

    told(open_local(tmp_path), story)


def test_the_log_stamps_the_time_and_never_goes_back(tmp_path: Path) -> None:
    times = iter([10 * SECOND_US, 8 * SECOND_US, 12 * SECOND_US])

    async def story(log: Log) -> None:
        for value in "abc":
            await log.append(TOPIC, messages(value))
        stamps = [one.log_us // SECOND_US for one in await first(log, 3)]
        assert stamps == [10, 10, 12]

    told(open_local(tmp_path, clock=lambda: next(times)), story)


def test_many_who_append_at_once_lose_nothing_and_each_keeps_its_order(tmp_path: Path) -> None:
    async def story(log: Log) -> None:
        async def one(name: str) -> None:
            for number in range(50):
                await log.append(TOPIC, messages(f"{name}{number}"))

        await asyncio.gather(*(one(name) for name in "abcd"))
        values = [record.value.decode() for record in await first(log, 200)]
        for name in "abcd":
            own = [value for value in values if value.startswith(name)]
            assert own == [f"{name}{number}" for number in range(50)]

    told(open_local(tmp_path), story)


def test_two_readers_each_see_all_also_what_comes_later(tmp_path: Path) -> None:
    async def story(log: Log) -> None:
        start = (await log.span(TOPIC)).end
        readers = [asyncio.create_task(first(log, 3, start)) for _ in range(2)]
        await log.append(TOPIC, messages("a"))
        await asyncio.sleep(0.02)
        await log.append(TOPIC, messages("b", "c"))
        for found in await asyncio.gather(*readers):
            assert [one.value for one in found] == [b"a", b"b", b"c"]

    told(open_local(tmp_path), story)


def test_what_is_no_longer_kept_is_said_and_not_skipped(tmp_path: Path) -> None:
    async def story(log: Log) -> None:
        for number in range(20):
            await log.append(TOPIC, messages(f"{number:04}"))
        with pytest.raises(OffsetGoneError, match="is not kept"):
            await first(log, 1, (await log.span(TOPIC)).end + 1)

    told(open_local(tmp_path), story)


def test_a_log_keeps_what_its_bounds_allow_and_counts_on(tmp_path: Path) -> None:
    now_us = [0]
    log = open_local(
        tmp_path, clock=lambda: now_us[0], retention=Retention(age_us=SECOND_US, size_bytes=8)
    )

    async def story(log: Log) -> None:
        begun = await log.append(TOPIC, messages("0000"))
        now_us[0] = 5 * SECOND_US
        await log.append(TOPIC, messages("1111", "2222", "3333"))
        await log.trim()  # type: ignore[attr-defined]
        span = await log.span(TOPIC)
        assert (span.first, span.end) == (begun + 2, begun + 4)
        with pytest.raises(OffsetGoneError):
            await first(log, 1, begun)
        now_us[0] = 60 * SECOND_US
        await log.trim()  # type: ignore[attr-defined]
        assert await log.append(TOPIC, messages("4444")) == begun + 4

    told(log, story)


KILLED = """
import asyncio, os, sys
from pathlib import Path
from firstfault.log import Message
from firstfault.log.local import open_local

async def main():
    log = open_local(Path(sys.argv[1]))
    async def one(name):
        for number in range(10_000):
            text = f"{name}{number}"
            await log.append("firstfault.log.v1", [Message("k", text.encode())])
            print(text, flush=True)
    await asyncio.gather(*(one(name) for name in "abc"))

asyncio.run(main())
"""


def test_what_was_acknowledged_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    script = textwrap.dedent(KILLED)
    process = subprocess.Popen(  # noqa: S603 - this very interpreter, and a script of ours
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    acknowledged = [process.stdout.readline().strip() for _ in range(200)]
    process.kill()
    acknowledged += [line.strip() for line in process.stdout if line.endswith("\n")]
    process.wait()
    process.stdout.close()

    async def story(log: Log) -> None:
        span = await log.span(TOPIC)
        kept = [one.value.decode() for one in await first(log, span.end - span.first)]
        assert set(acknowledged) <= set(kept)
        assert len(kept) == len(set(kept))

    told(open_local(tmp_path), story)


def test_a_full_disk_acknowledges_nothing_and_the_log_goes_on_after_it(tmp_path: Path) -> None:
    log = open_local(tmp_path, pages_max=40)

    async def story(log: Log) -> None:
        kept = 0

        async def fill() -> None:
            nonlocal kept
            while kept < 100:
                await log.append(TOPIC, messages("x" * 4000))
                kept += 1

        with pytest.raises(LogError, match="full"):
            await fill()
        span = await log.span(TOPIC)
        assert span.end - span.first == kept > 0
        await log.append(TOPIC, messages("small"))
        assert (await first(log, kept + 1))[-1].value == b"small"

    told(log, story)


def test_a_slow_reader_gets_all_in_pieces(tmp_path: Path) -> None:
    async def story(log: Log) -> None:
        await log.append(TOPIC, messages(*map(str, range(2_500))))
        sizes = []
        async for records in log.read(TOPIC, (await log.span(TOPIC)).first):
            sizes.append(len(records))
            await asyncio.sleep(0.01)
            if sum(sizes) == 2_500:
                break
        assert max(sizes) <= 1_000

    told(open_local(tmp_path), story)


def test_a_closed_log_says_so_to_whoever_appends(tmp_path: Path) -> None:
    async def story(log: Log) -> None:
        await log.append(TOPIC, messages("a"))
        await log.close()
        with pytest.raises(LogError, match="closed"):
            await log.append(TOPIC, messages("b"))

    asyncio.run(story(open_local(tmp_path)))
