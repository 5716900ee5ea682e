"""A snapshot of a domain of 10⁵ entities: how long the fold stands, and how soon a start is over.

Processor time of single steps; of several runs the least and the most, since page faults and a cold
cache count when a snapshot is cut, and other work on the machine does not.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import zstandard

from bench import load
from bench.clock import Figures, seconds
from bench.incident_storm import PACK
from bench.local_log import frame
from correlator.engine import Engine
from correlator.live import Fold
from correlator.replay import engine_for
from correlator.rules import RuleSet, load_pack
from correlator.snapshots import Cut, restored
from correlator.state import EVENT_IDS_MAX
from firstfault.log import Record
from firstfault.playback import spare_collections
from schemas.base import canonical

ENTITIES = 100_000
BROKEN = 2_000
"""Applications that are down when the snapshot is cut."""
NOISE_FRAMES = 1_000
SINCE_S, PER_S = 10, 5_000
"""Of log that is folded again after the snapshot, and its inputs a second."""
FRAME = 10
REPEATS = 5
T = TypeVar("T")


def snapshots() -> Figures:
    """Return stalls in milliseconds, sizes, and the seconds of a recovery."""
    names = load.entities(ENTITIES)
    rules = load_pack(PACK)
    fold = Fold(engine_for(load.topology(names), rules, "bench", "recorded"), 0)
    for record in _before(names):
        fold.take(record)
    for number in range(2 * EVENT_IDS_MAX - 1):
        fold.engine.state.is_duplicate(f"{number:064x}")
    spare_collections()  # As a worker does once it has recovered.
    runs = [_cut(fold) for _ in range(REPEATS)]
    chunks, _ = runs[-1]
    since = _since(fold, names)
    restored_s = seconds(partial(_restored, chunks, rules, fold))
    again = _restored(chunks, rules, fold)
    folded_s = seconds(lambda: [again.take(record) for record in since])
    return {
        "entities": len(names),
        "standing_symptoms": len(fold.engine.state.sightings),
        "incidents": len(fold.engine.state.incidents),
        "compressed_bytes": sum(map(len, chunks)),
        "stall_ms": {
            what: {
                "least": round(min(taken[what] for _, taken in runs), 2),
                "most": round(max(taken[what] for _, taken in runs), 2),
            }
            for what in ("cut", "slice", "close")
        },
        "written_ms": round(min(taken["whole"] for _, taken in runs), 1),
        "restored_s": round(restored_s, 2),
        "inputs_since": SINCE_S * PER_S,
        "folded_s": round(folded_s, 2),
        "recovered_s": round(restored_s + folded_s, 2),
    }


def _before(names: list[str]) -> list[Record]:
    apps = [name for name in names if name.startswith("app:")]
    records = [_record(number, frame(number, FRAME, names)) for number in range(NOISE_FRAMES)]
    step = len(apps) // BROKEN
    for number, app in enumerate(apps[::step][:BROKEN], NOISE_FRAMES):
        events = [
            {"type": "event", "entity": app, "signal": "app.hb.lost", "source": "collector:x"}
        ]
        records.append(_record(number, _frame(number, [*events, {"type": "tick"}])))
    return records


def _since(fold: Fold, names: list[str]) -> list[Record]:
    start = fold.next_offset
    frames = range(start, start + SINCE_S * PER_S // FRAME)
    return [_record(number, frame(number, FRAME, names)) for number in frames]


def _record(number: int, value: bytes) -> Record:
    return Record(number, load.START_US + number * FRAME * load.STEP_US, "bench", value)


def _frame(number: int, inputs: list[dict[str, str]]) -> bytes:
    document = {"frame_id": f"collector:x/b1/{number}", "domain": "bench", "inputs": inputs}
    return canonical(document).encode()


def _cut(fold: Fold) -> tuple[list[bytes], dict[str, float]]:
    """Return the chunks of a snapshot, and the longest that each kind of step took."""
    taken = dict.fromkeys(("cut", "slice", "close"), 0.0)
    start_s = time.process_time()
    cut = _timed(taken, "cut", lambda: Cut(fold))
    packer, chunks, lines = zstandard.ZstdCompressor(), list[bytes](), cut.lines()
    while line := _timed(taken, "slice", lambda: next(lines, b"")):
        chunks.append(packer.compress(line))
    _timed(taken, "close", cut.close)
    taken["whole"] = (time.process_time() - start_s) * 1e3
    return chunks, taken


def _timed(taken: dict[str, float], what: str, step: Callable[[], T]) -> T:
    start_s = time.process_time()
    found = step()
    taken[what] = max(taken[what], (time.process_time() - start_s) * 1e3)
    return found


def _restored(chunks: list[bytes], rules: RuleSet, fold: Fold) -> Fold:
    opener = zstandard.ZstdDecompressor()
    lines = [opener.decompress(chunk) for chunk in chunks]
    found = restored(lines, fold.engine.state.topology.schema)
    again = Fold(Engine(found.state, rules), fold.next_offset)
    again.doubles.know(found.doubles)
    return again
