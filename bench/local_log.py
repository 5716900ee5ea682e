"""Quiet events through the local log: appended, and folded from it, in frames of 10 and of 50.

And a storm, read from it, folded, and what is said of it published to it.
"""

import asyncio
import json
import tempfile
import time
from functools import partial
from pathlib import Path

from bench import load
from bench.clock import Figures, parse_all, seconds
from bench.incident_storm import PACK
from bench.storm_frames import DOMAIN, OWNER, frames, storm, with_ticks
from correlator.lease import Alone
from correlator.live import Fold
from correlator.replay import engine_for
from correlator.rules import load_pack
from correlator.shell import Means, Shell, Site
from firstfault.log import Message, between
from firstfault.log.local import all_records, open_local
from firstfault.playback import spare_collections
from schemas.base import from_microseconds
from schemas.topics import LOCAL_FILE, LOG

EVENTS = 60_000
FRAMES = (10, 50)
AT_ONCE = 64
"""Appends that wait for their commit at a time, as many collectors do."""


def local_log() -> Figures:
    """Return events per processor second, appended and folded, for each size of a frame."""
    names = load.entities(1_000)
    figures: Figures = {"events": EVENTS}
    for size in FRAMES:
        values = [frame(number, size, names) for number in range(EVENTS // size)]
        with tempfile.TemporaryDirectory() as folder:
            appended_s = seconds(partial(_append, Path(folder), values))
            folded_s = seconds(partial(_fold, Path(folder), names))
        parsed_s = seconds(partial(parse_all, values))
        figures[f"frames_of_{size}"] = {
            "appended_per_s": round(EVENTS / appended_s),
            "folded_per_s": round(EVENTS / folded_s),
            "both_per_s": round(EVENTS / (appended_s + folded_s)),
            "times_json_loads": round((appended_s + folded_s) / parsed_s, 2),
        }
        figures[f"storm_of_{size}"] = {"folded_per_s": asyncio.run(_storm_folded(size))}
    return figures


async def _storm_folded(size: int) -> int:
    """Return events of a storm per processor second: read, decoded, folded and published."""
    given, now_us = storm(), [0]
    written = list(with_ticks(given, frames(given, size), epoch=1))
    now_us[0] = written[0][0]
    with tempfile.TemporaryDirectory() as folder:
        log = open_local(Path(folder), clock=lambda: now_us[0])
        site = Site(DOMAIN, given.topology, given.rules, owner=OWNER)
        shell = Shell(Means(log, log, Alone(), lambda _: None), 0, [site])
        await shell.recover()
        await shell.look()  # It claims the right to speak.
        for now_us[0], value in written:
            await log.append(LOG, [Message(DOMAIN, value)])
        spare_collections()
        start_s = time.process_time()
        async for records in between(log, LOG, await log.span(LOG)):
            await shell.fold(records)
        spent_s = time.process_time() - start_s
        await log.close()
    return round(len(given.events) / spent_s)


def frame(number: int, size: int, names: list[str]) -> bytes:
    """Return a frame of so many events that no rule listens to."""
    moment = from_microseconds(load.START_US + number * size * load.STEP_US)
    inputs = [
        {
            "type": "event",
            "event_id": f"{number}-{index}",
            "entity": names[(number * size + index) % len(names)],
            "signal": load.NOISE,
            "at": moment,
            "source": "collector:h0",
        }
        for index in range(size)
    ]
    frame = {"frame_id": f"collector:h0/b1/{number}", "domain": "bench", "inputs": inputs}
    return json.dumps({**frame, "sent_at": moment}).encode()


def _append(folder: Path, values: list[bytes]) -> None:
    asyncio.run(_appended(folder, values))


async def _appended(folder: Path, values: list[bytes]) -> None:
    log = open_local(folder)
    waiting = asyncio.Semaphore(AT_ONCE)

    async def one(value: bytes) -> None:
        async with waiting:
            await log.append(LOG, [Message("bench", value)])

    await asyncio.gather(*map(one, values))
    await log.close()


def _fold(folder: Path, names: list[str]) -> None:
    rules = load_pack(PACK)
    engine = engine_for(load.topology(names), rules, "bench", "recorded")
    fold = Fold(engine, next_offset=1)
    for record in all_records(folder / LOCAL_FILE, LOG):
        fold.take(record)
