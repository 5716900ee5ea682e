"""A storm of two minutes through decode, fold and inference: events a second, and one look."""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from bench import load
from bench.clock import Figures, beside_json, milliseconds, seconds
from bench.storm.__main__ import main
from correlator import incidents
from correlator.domain import Domain
from correlator.importers import load_topology
from correlator.recording import Recording, lines, open_recording, read
from correlator.replay import engine_for, ticks_until
from correlator.rules import RuleSet, load_pack
from correlator.topology import Topology
from schemas.outputs import Incident, Output

PACK = Path(__file__).resolve().parent.parent / "rules" / "nfvi"
SIZES = ("--hosts", "100", "--vms", "20", "--apps", "2", "--seconds", "120", "--seed", "1")


@contextmanager
def looking(look: Callable[[Domain], None]) -> Iterator[None]:
    """Let every look of every engine go through a function of ours while the block runs."""
    known = incidents.look
    incidents.look = look  # type: ignore[assignment]
    try:
        yield
    finally:
        incidents.look = known


def _blind(domain: Domain) -> None:
    domain.state.dirty.clear()


def _timed(taken_s: list[float]) -> Callable[[Domain], None]:
    known = incidents.look

    def look(domain: Domain) -> None:
        start = time.process_time()
        known(domain)
        taken_s.append(time.process_time() - start)

    return look


def incident_storm() -> Figures:
    """Return events per second of the whole and of decode with fold, and the time of a look."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        main(["storm", folder, *SIZES])
        recording = open_recording(Path(folder))
        rules = load_pack(PACK)
        topology = load_topology(Path(folder, "topology.json"), rules.schema)[0]
        given = [line for _, line in lines(recording.events, load.refuse)]
        figures = beside_json({"decode": lambda: load.decode_all(recording)}, given)
        with looking(_blind):
            fold_s = seconds(lambda: _replayed(topology, rules, recording))
        looks_s: list[float] = []
        said: list[Output] = []
        with looking(_timed(looks_s)):
            whole_s = seconds(lambda: said.extend(_replayed(topology, rules, recording)))
    figures["nodes"] = len(topology)
    figures["incidents"] = len({one.incident_id for one in said if isinstance(one, Incident)})
    figures["decode_fold"] = _rate(len(given), fold_s, figures)
    figures["decode_fold_inference"] = _rate(len(given), whole_s, figures)
    figures["inference"] = {
        "looks": len(looks_s),
        "seconds": round(sum(looks_s), 3),
        "p50_ms": milliseconds(looks_s, 0.5),
        "p90_ms": milliseconds(looks_s, 0.9),
        "p99_ms": milliseconds(looks_s, 0.99),
        "max_ms": milliseconds(looks_s, 1.0),
    }
    return figures


def _rate(events: int, spent_s: float, figures: Figures) -> Figures:
    return {
        "events_per_s": round(events / spent_s),
        "times_json_loads": round(spent_s / events * figures["json_loads_per_s"], 2),
    }


def _replayed(topology: Topology, rules: RuleSet, recording: Recording) -> list[Output]:
    """Fold the two minutes themselves; what is left waiting at their end is not drained."""
    engine = engine_for(topology.copy(), rules, "bench")
    said: list[Output] = []
    for record in read(recording, load.refuse):
        for _, output in ticks_until(engine, record.log_us):
            said.append(output)
        said.extend(engine.step(record))
    return said
