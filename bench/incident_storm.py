"""A storm of two minutes through decode, fold and inference: events a second, and one look."""

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

from bench import load, storm
from bench.clock import Figures, beside_json, milliseconds, seconds
from correlator.engine import Engine, Stamped
from correlator.importers import load_topology
from correlator.recording import Recording, lines, open_recording, read
from correlator.replay import engine_for, fold
from correlator.rules import load_pack
from schemas.inputs import Tick
from schemas.outputs import Incident, Output

PACK = Path(__file__).resolve().parent.parent / "rules" / "nfvi"
SIZES = ("--hosts", "100", "--vms", "20", "--apps", "2", "--seconds", "120", "--seed", "1")
LOOKS = ("look", "relook")


class TimedEngine(Engine):
    """An engine that knows how long its looks took."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.state, engine.rules)
        self.looks_s: list[float] = []

    def step(self, record: Stamped) -> list[Output]:
        """Fold one input; where that ended in a look, keep the time of it."""
        state = self.state
        is_tick = isinstance(record.input, Tick) and bool(state.deadlines)
        is_due = is_tick and state.deadlines[0][1] in LOOKS
        known, had_dirty = len(state.sightings), bool(state.dirty)
        start = time.process_time()
        said = super().step(record)
        spent_s = time.process_time() - start
        # A certain symptom is looked at in its own step: it is new, and nothing is left to see.
        if is_due or (not state.dirty and (had_dirty or len(state.sightings) > known)):
            self.looks_s.append(spent_s)
        return said


def incident_storm() -> Figures:
    """Return events per second of the whole and of decode with fold, and the time of a look."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        storm.main(["storm", folder, *SIZES])
        recording = open_recording(Path(folder))
        rules = load_pack(PACK)
        topology = load_topology(Path(folder, "topology.json"), rules.schema)[0]
        given = [line for _, line in lines(recording.events, load.refuse)]
        figures = beside_json({"decode": lambda: load.decode_all(recording)}, given)
        engine = TimedEngine(engine_for(topology.copy(), rules, "bench"))
        said: list[Output] = []
        whole_s = seconds(lambda: said.extend(_replayed(engine, recording)))
    fold_s = whole_s - sum(engine.looks_s)
    figures["nodes"] = len(topology)
    figures["incidents"] = len({one.incident_id for one in said if isinstance(one, Incident)})
    figures["decode_fold"] = _rate(len(given), fold_s, figures)
    figures["decode_fold_inference"] = _rate(len(given), whole_s, figures)
    figures["inference"] = {
        "looks": len(engine.looks_s),
        "seconds": round(sum(engine.looks_s), 3),
        "p50_ms": milliseconds(engine.looks_s, 0.5),
        "p99_ms": milliseconds(engine.looks_s, 0.99),
        "max_ms": milliseconds(engine.looks_s, 1.0),
    }
    return figures


def _rate(events: int, spent_s: float, figures: Figures) -> Figures:
    return {
        "events_per_s": round(events / spent_s),
        "times_json_loads": round(spent_s / events * figures["json_loads_per_s"], 2),
    }


def _replayed(engine: Engine, recording: Recording) -> Iterator[Output]:
    return (output for _, output in fold(engine, read(recording, load.refuse)))
