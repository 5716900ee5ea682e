"""Twenty faults at once: the storm with its two minutes pressed into a few seconds.

Then its symptoms are one riddle of thousands, weighed as a whole at each look. What counts is that
decisions keep up: processor time beside the time that the storm took, and the slowest step.
"""

import time

from bench.clock import Figures
from bench.storm_frames import DOMAIN, Written, frames, storm, with_ticks
from correlator.live import Fold
from correlator.replay import engine_for
from firstfault.log import Record
from firstfault.playback import spare_collections

SPANS_S = (2, 6, 20)
AFTER_S = 20
SIZE = 50


def pressed_storm() -> Figures:
    """Return, for each span, seconds of a core, and the milliseconds of the slowest record."""
    return {f"in_{span_s}_s": _folded(span_s) for span_s in SPANS_S}


def _folded(span_s: int) -> Figures:
    given = storm()
    written = list(with_ticks(given, _pressed(frames(given, SIZE), span_s), 0))
    engine = engine_for(given.topology.copy(), given.rules, DOMAIN, "recorded")
    fold = Fold(engine, next_offset=0)
    spare_collections()
    taken_s = []
    for log_us, value in written:
        start_s = time.process_time()
        fold.take(Record(fold.next_offset, log_us, DOMAIN, value))
        taken_s.append(time.process_time() - start_s)
    return {
        "events": len(given.events),
        "core_s": round(sum(taken_s), 2),
        "slowest_ms": round(max(taken_s) * 1e3),
        "incidents_open": len(engine.state.incidents),
    }


def _pressed(written: list[Written], span_s: int) -> list[Written]:
    """Return frames at equal distances; the last comes once more, to let time pass."""
    start_us, step_us = written[0][0], span_s * 1_000_000 / len(written)
    pressed = [
        (start_us + round(number * step_us) // 1_000 * 1_000, value)
        for number, (_, value) in enumerate(written)
    ]
    return [*pressed, (pressed[-1][0] + AFTER_S * 1_000_000, pressed[-1][1])]
