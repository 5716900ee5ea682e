"""The storm of `incident_storm` as a log has it: frames of so many events, and the ticks between.

Its events are 400 a second, and the log must stamp them so: pressed into the seconds that it takes
to fold them, its twenty faults would be one riddle of 48,000 symptoms, another storm altogether.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench import load
from bench.incident_storm import PACK, SIZES
from bench.storm.__main__ import main
from correlator.engine import Stamped
from correlator.importers import load_topology
from correlator.live import Fold
from correlator.recording import open_recording, read
from correlator.replay import engine_for
from correlator.rules import RuleSet, load_pack
from correlator.topology import Topology
from firstfault.log import Record
from schemas.base import canonical, document_of, from_microseconds
from schemas.inputs import Frame, Tick

DOMAIN, OWNER = "bench", "bench"
Written = tuple[int, bytes]
"""When it is appended, microseconds since 1970, and the message."""


@dataclass(frozen=True)
class Storm:
    """Two minutes of a site in trouble."""

    topology: Topology
    rules: RuleSet
    events: list[Stamped]


@cache
def storm() -> Storm:
    """Return the storm, the same each time."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        main(["storm", folder, *SIZES])
        rules = load_pack(PACK)
        topology = load_topology(Path(folder, "topology.json"), rules.schema)[0]
        return Storm(topology, rules, list(read(open_recording(Path(folder)), load.refuse)))


def frames(given: Storm, size: int) -> list[Written]:
    """Return the events as frames, each appended when the last of its events was."""
    parts = [given.events[at : at + size] for at in range(0, len(given.events), size)]
    return [
        (part[-1].log_us // 1_000 * 1_000, _frame(f"collector:storm/b1/{number}", part))
        for number, part in enumerate(parts)
    ]


def with_ticks(given: Storm, written: list[Written], epoch: int) -> Iterator[Written]:
    """Yield frames, and each tick when the one who speaks since `epoch` would append it.

    They say of nothing that it is published. Stamps are whole milliseconds, as a broker's are.
    """
    engine = engine_for(given.topology.copy(), given.rules, DOMAIN, "recorded")
    fold = Fold(engine, next_offset=0)
    number = 0
    for log_us, value in written:
        while (ahead_us := fold.tick_due_us(log_us)) <= 0 and engine.state.log_us:
            due_us = -(-(log_us + ahead_us) // 1_000) * 1_000
            tick = Stamped(0, 0, due_us, Tick(owner=OWNER, epoch=epoch))
            yield _taken(fold, due_us, _frame(f"{OWNER}/b1/{number}", [tick]))
            number += 1
        yield _taken(fold, log_us, value)


def _taken(fold: Fold, log_us: int, value: bytes) -> Written:
    fold.take(Record(fold.next_offset, log_us, DOMAIN, value))
    return log_us, value


def _frame(frame_id: str, part: list[Stamped]) -> bytes:
    inputs = [one.input for one in part]
    head = {"frame_id": frame_id, "domain": DOMAIN, "sent_at": from_microseconds(part[-1].log_us)}
    frame = Frame.model_validate({**head, "inputs": inputs})
    return canonical(document_of(frame)).encode()
