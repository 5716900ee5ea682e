"""The local log: what every log must do, and what only a file can be asked."""

import asyncio
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from firstfault.log import Log, LogError, Message, OffsetGoneError, between, local
from firstfault.log.local import Retention, open_local
from schemas.topics import INCIDENTS
from schemas.topics import LOG as TOPIC
from tests.log import contract
from tests.log.contract import CONTRACT, PATIENCE_S, SECOND_US, Story, first, messages


def told(log: Log, story: Story) -> None:
    asyncio.run(contract.told(log, story))


@pytest.mark.parametrize("story", CONTRACT, ids=lambda story: story.__name__)
def test_the_local_log_does_what_every_log_must(story: Story, tmp_path: Path) -> None:
    told(open_local(tmp_path), story)


def test_the_log_stamps_the_time_and_never_goes_back(tmp_path: Path) -> None:
    times = iter([10 * SECOND_US, 8 * SECOND_US, 12 * SECOND_US])

    async def story(log: Log) -> None:
        for value in "abc":
            await log.append(TOPIC, messages(value))
        stamps = [one.log_us // SECOND_US for one in await first(log, 3)]
        assert stamps == [10, 10, 12]

    told(open_local(tmp_path, clock=lambda: next(times)), story)


def test_a_log_keeps_what_its_bounds_allow_and_counts_on(tmp_path: Path) -> None:
    now_us = [0]
    kept = Retention({TOPIC: SECOND_US}, size_bytes=1_000_000)
    log = open_local(tmp_path, clock=lambda: now_us[0], retention=kept)

    async def story(log: Log) -> None:
        begun = await log.append(TOPIC, messages("0000"))
        now_us[0] = 5 * SECOND_US
        large = [f"{number}{'x' * 100_000}" for number in range(20)]
        await log.append(TOPIC, messages(*large))
        await log.trim()  # type: ignore[attr-defined]
        span = await log.span(TOPIC)
        assert span.end == begun + 21
        assert 8 <= span.end - span.first <= 9
        with pytest.raises(OffsetGoneError):
            await first(log, 1, begun)
        now_us[0] = 60 * SECOND_US
        await log.trim()  # type: ignore[attr-defined]
        assert await log.append(TOPIC, messages("4444")) == begun + 21

    told(log, story)


def test_of_a_compacted_topic_the_newest_of_each_key_is_kept_for_ever(tmp_path: Path) -> None:
    now_us = [0]
    kept = Retention.everything(SECOND_US, size_bytes=1)
    log = open_local(tmp_path, clock=lambda: now_us[0], retention=kept)

    async def story(log: Log) -> None:
        for number in range(5):
            await log.append(INCIDENTS, [Message("a", b"%d" % number), Message("b", b"-")])
        await log.append(INCIDENTS, [Message("a", b"last")])
        now_us[0] = (local.REPLACED_S + 10) * SECOND_US
        await log.append(INCIDENTS, [Message("c", b"late")])
        await log.trim()  # type: ignore[attr-defined]
        span = await log.span(INCIDENTS)
        found = [one async for some in between(log, INCIDENTS, span) for one in some]
        assert [(one.key, one.value) for one in found] == [
            ("b", b"-"),
            ("a", b"last"),
            ("c", b"late"),
        ]

    told(log, story)


def test_the_log_goes_on_where_its_clock_is_set_back_and_lets_it_catch_up(tmp_path: Path) -> None:
    late_us = [0]
    log = open_local(tmp_path, clock=lambda: time.time_ns() // 1000 - late_us[0])

    async def story(log: Log) -> None:
        await log.append(TOPIC, messages("a"))
        late_us[0] = SECOND_US // 5
        for value in "bcd":
            await log.append(TOPIC, messages(value))
            await asyncio.sleep(0.1)
        stamps = [one.log_us for one in await first(log, 4)]
        assert stamps[1] < stamps[2] < stamps[3]
        await asyncio.sleep(0.3)
        await log.append(TOPIC, messages("e"))
        assert (await first(log, 5))[-1].log_us <= log.clock()  # type: ignore[attr-defined]

    told(log, story)


def test_a_log_that_is_closed_writes_what_waits_and_takes_no_more(tmp_path: Path) -> None:
    async def story() -> None:
        log = open_local(tmp_path)
        asked = [asyncio.ensure_future(log.append(TOPIC, messages("x"))) for _ in range(6_000)]
        await asyncio.sleep(0)
        await log.close()
        assert len(set(await asyncio.gather(*asked))) == 6_000
        with pytest.raises(LogError, match="closed"):
            await log.append(TOPIC, messages("late"))
        await log.close()

    asyncio.run(asyncio.wait_for(story(), PATIENCE_S))


def test_whatever_ends_a_write_those_who_wait_are_told(tmp_path: Path) -> None:
    def broken() -> int:
        raise OverflowError("no such time")

    async def story(log: Log) -> None:
        with pytest.raises(LogError, match="no such time"):
            await log.append(TOPIC, messages("a"))
        log.clock = lambda: 1  # type: ignore[attr-defined]
        with pytest.raises(LogError, match="cannot be written"):
            await log.append(TOPIC, [Message("\ud800", b"")])
        await log.append(TOPIC, messages("b"))

    told(open_local(tmp_path, clock=broken), story)


def test_appends_that_wait_to_be_let_in_keep_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "QUEUE_MAX", 4)

    async def story(log: Log) -> None:
        begun = await asyncio.gather(
            *(log.append(TOPIC, messages(str(number))) for number in range(300))
        )
        assert begun == sorted(begun)

    told(open_local(tmp_path), story)


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
