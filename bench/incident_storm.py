"""A storm of two minutes through decode, fold and inference: events a second, and one look."""

import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path

from bench import load, storm
from bench.clock import Figures, beside_json, milliseconds
from correlator.engine import Engine, Stamped
from correlator.importers import load_topology
from correlator.recording import Recording, lines, open_recording, read
from correlator.replay import engine_for, fold
from correlator.rules import RuleSet, load_pack
from correlator.topology import Topology
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
        """Fold one input; where it is a tick at which a look falls due, take the time."""
        deadlines = self.state.deadlines
        if not isinstance(record.input, Tick) or not deadlines or deadlines[0][1] not in LOOKS:
            return super().step(record)
        start = time.process_time()
        said = super().step(record)
        self.looks_s.append(time.process_time() - start)
        return said


def incident_storm() -> Figures:
    """Return events per second of the whole and of decode with fold, and the time of a look."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        storm.main(["storm", folder, *SIZES])
        recording = open_recording(Path(folder))
        rules = load_pack(PACK)
        topology = load_topology(Path(folder, "topology.json"), rules.schema)[0]
        given = [line for _, line in lines(recording.events, load.refuse)]
        runs = {
            "decode": lambda: load.decode_all(recording),
            "decode_fold_inference": lambda: _replayed(recording, topology, rules),
        }
        figures = beside_json(runs, given, repeats=2)
        figures["inference"] = _looks(recording, topology, rules)
    whole_s = len(given) / figures["decode_fold_inference"]["events_per_s"]
    fold_s = whole_s - figures["inference"]["seconds"]
    figures["decode_fold_events_per_s"] = round(len(given) / fold_s)
    figures["nodes"] = len(topology)
    return figures


def _replayed(recording: Recording, topology: Topology, rules: RuleSet) -> None:
    engine = engine_for(topology.copy(), rules, "bench")
    for _ in fold(engine, read(recording, load.refuse)):
        pass


def _looks(recording: Recording, topology: Topology, rules: RuleSet) -> Figures:
    engine = TimedEngine(engine_for(topology.copy(), rules, "bench"))
    said = [output for _, output in fold(engine, read(recording, load.refuse))]
    taken = engine.looks_s
    opened = {output.incident_id for output in said if isinstance(output, Incident)}
    return {
        "looks": len(taken),
        "seconds": round(sum(taken), 3),
        "p50_ms": milliseconds(taken, 0.5),
        "p99_ms": milliseconds(taken, 0.99),
        "max_ms": milliseconds(taken, 1.0),
        "incidents": len(opened),
    }
