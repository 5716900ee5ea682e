"""The local log: what every log must do, and what only a file can be asked."""

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from firstfault.log import Log, LogError, OffsetGoneError, local
from firstfault.log.local import Retention, open_local
from schemas.topics import LOG as TOPIC
from tests.log import contract
from tests.log.contract import CONTRACT, SECOND_US, Story, first, messages


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
