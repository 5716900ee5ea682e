"""The correlator on a local log: what is appended is explained, also after a kill."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from firstfault.log import Message
from firstfault.log.local import LocalLog, open_local
from firstfault.playback import open_playback
from schemas.base import document_of, from_microseconds
from schemas.topics import DEAD_LETTERS, DECISIONS, INCIDENTS, LOG

ONE, OTHER = "app:vm00001-a1", "app:vm00016-a2"
PATIENCE_S = 30.0
TOPOLOGY = Path(__file__).parents[2] / "examples" / "rack-power" / "topology.json"


@contextmanager
def correlator(folder: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", "from firstfault.cli import main; main()", "run", "--quiet"]
    options = ("--rules", "nfvi", "--topology", str(TOPOLOGY), *options)
    process = subprocess.Popen(  # noqa: S603 - our own command
        [*command, "--local", str(folder), *options], stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def frame(number: int, *inputs: dict[str, Any]) -> bytes:
    sent_at = from_microseconds(time.time_ns() // 1000)
    document = {
        "frame_id": f"collector:h1/b1/{number}",
        "domain": "default",
        "sent_at": sent_at,
        "inputs": inputs,
    }
    return json.dumps(document).encode()


def crash(app: str) -> list[dict[str, Any]]:
    """Return what a dead application shows."""
    return [
        {"type": "event", "entity": app, "signal": signal_name, "source": "collector:h1"}
        for signal_name in ("app.hb.lost", "app.health.bad")
    ]


async def said(log: LocalLog, topic: str) -> list[dict[str, Any]]:
    span = await log.span(topic)
    found: list[dict[str, Any]] = []
    if span.first < span.end:
        async for records in log.read(topic, span.first):
            found += [json.loads(record.value) for record in records]
            if len(found) >= span.end - span.first:
                break
    return found


async def until(log: LocalLog, topic: str, count: int) -> list[dict[str, Any]]:
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        found = await said(log, topic)
        if len(found) >= count:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"{topic}: {len(await said(log, topic))} of {count} after {PATIENCE_S} s")


def test_a_fault_is_found_and_bad_bytes_become_a_dead_letter(tmp_path: Path) -> None:
    async def story() -> None:
        log = open_local(tmp_path)
        await log.append(LOG, [Message("default", b"garbage")])
        with correlator(tmp_path):
            await log.append(LOG, [Message("default", frame(1, *crash(ONE), {"type": "what"}))])
            (first, *_) = await until(log, INCIDENTS, 1)
            assert first["causes"][0]["entity"] == ONE
            letters = await until(log, DEAD_LETTERS, 2)
            assert [one["position"] for one in letters] == [1, 2]
            assert letters[1]["reason"].startswith("input 2: ")
        await log.close()

    asyncio.run(story())


def test_what_was_said_before_a_kill_is_not_said_again_after_it(tmp_path: Path) -> None:
    async def story() -> None:
        log = open_local(tmp_path)
        with correlator(tmp_path) as first:
            await log.append(LOG, [Message("default", frame(1, *crash(ONE)))])
            await until(log, INCIDENTS, 1)
            await asyncio.sleep(1.5)  # A tick has said by now that this is published.
            first.send_signal(signal.SIGKILL)
        before = await said(log, INCIDENTS)
        with correlator(tmp_path):
            await log.append(LOG, [Message("default", frame(2, *crash(OTHER)))])
            after = await until(log, INCIDENTS, len(before) + 1)
        assert after[: len(before)] == before
        told = [(one["incident_id"], one["update"]) for one in after]
        assert len(told) == len(set(told))
        await log.close()

    asyncio.run(story())


def test_only_one_correlator_runs_on_a_log(tmp_path: Path) -> None:
    async def story() -> None:
        log = open_local(tmp_path)
        with correlator(tmp_path):
            await log.append(LOG, [Message("default", frame(1, *crash(ONE)))])
            await until(log, INCIDENTS, 1)
            with correlator(tmp_path) as second:
                assert await asyncio.to_thread(second.wait, PATIENCE_S) == 2
                assert second.stderr is not None
                assert "another correlator" in second.stderr.read()
        await log.close()

    asyncio.run(story())


def test_the_log_replays_to_what_was_said_live(tmp_path: Path) -> None:
    async def story() -> None:
        log = open_local(tmp_path)
        with correlator(tmp_path) as first:
            await log.append(LOG, [Message("default", frame(1, *crash(ONE)))])
            await until(log, INCIDENTS, 1)
            first.send_signal(signal.SIGKILL)
        with correlator(tmp_path):
            await log.append(LOG, [Message("default", frame(2, *crash(OTHER)))])
            await log.append(LOG, [Message("default", frame(2, *crash(OTHER)))])
            end_s = time.monotonic() + PATIENCE_S
            while len({one["incident_id"] for one in await said(log, INCIDENTS)}) < 2:
                assert time.monotonic() < end_s
                await asyncio.sleep(0.05)
            await asyncio.sleep(1.5)
        live = {topic: unique(await said(log, topic)) for topic in (INCIDENTS, DECISIONS)}
        await log.close()
        playback = open_playback(tmp_path, rules="nfvi", topology=TOPOLOGY)
        again: dict[str, list[dict[str, Any]]] = {INCIDENTS: [], DECISIONS: []}
        for spoken in playback.outputs():
            topic = {"incident": INCIDENTS, "decision": DECISIONS}.get(spoken.output.type)
            if topic:
                again[topic].append(document_of(spoken.output))
        assert live[INCIDENTS] == unique(again[INCIDENTS])
        assert live[DECISIONS] == unique(again[DECISIONS])

    asyncio.run(story())


def unique(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return documents without repeats, in order: a kill may have one said twice."""
    return [one for number, one in enumerate(documents) if one not in documents[:number]]
