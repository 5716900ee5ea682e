"""A collector that is cut off, live: it is said to be silent, and its host is left alone."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from firstfault.log.local import open_local
from schemas.inputs import Frame, Pulse
from schemas.outputs import Action, Incident
from schemas.topics import ACTIONS, INCIDENTS, LOG

PATIENCE_S = 40.0
TOPOLOGY = Path(__file__).parents[2] / "rules" / "nfvi" / "site.json"


@contextmanager
def command(*words: str) -> Iterator["subprocess.Popen[bytes]"]:
    program = [sys.executable, "-c", "from firstfault.cli import main; main()", *words]
    process = subprocess.Popen(program)  # noqa: S603 - our own command
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def collecting(folder: Path, host: str) -> tuple[str, ...]:
    return ("collect", "--local", str(folder), "--source", "pulse", "--host", host)


async def heard(folder: Path, collectors: set[str]) -> None:
    """Wait until each of these has sent more than one pulse."""
    log = open_local(folder)
    pulses: Counter[str] = Counter()
    try:
        async with asyncio.timeout(PATIENCE_S):
            async for records in log.read(LOG, (await log.span(LOG)).first):
                for record in records:
                    given = Frame.model_validate_json(record.value).inputs
                    pulses.update(one.collector for one in given if isinstance(one, Pulse))
                if all(pulses[one] > 1 for one in collectors):
                    break
    finally:
        await log.close()


async def incidents(folder: Path, count: int) -> list[Incident]:
    """Return the incidents once there are so many messages of them."""
    log = open_local(folder)
    found: list[Incident] = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            async for records in log.read(INCIDENTS, (await log.span(INCIDENTS)).first):
                found += [Incident.model_validate_json(one.value) for one in records]
                if len(found) >= count:
                    break
        span = await log.span(ACTIONS)
        if span.first < span.end:
            async for records in log.read(ACTIONS, span.first):
                verbs = {Action.model_validate_json(one.value).verb for one in records}
                assert verbs <= {"notify"}
                break
    finally:
        await log.close()
    return found


def test_a_collector_that_is_cut_off_is_silent_and_its_host_is_no_suspect(tmp_path: Path) -> None:
    rules = ("--rules", "nfvi", "--topology", str(TOPOLOGY))
    with (
        command("run", "--local", str(tmp_path), *rules, "--quiet"),
        command(*collecting(tmp_path, "h2")),
        command(*collecting(tmp_path, "h1")) as cut_off,
    ):
        asyncio.run(heard(tmp_path, {"collector:h1", "collector:h2"}))
        cut_off.kill()
        found = asyncio.run(incidents(tmp_path, 1))
    roots = {(one.causes[0].entity, one.causes[0].signature) for one in found}
    assert roots == {("collector:h1", "collector-silent")}
