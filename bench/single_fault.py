"""One fault of each kind in a site of ten thousand entities: how long the slowest step takes.

A step is one input folded, decisions included; so the slowest of them bounds what the engine adds
between an event and its decision. Processor time, on a codebook that has seen nothing yet.
"""

import random
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path

from bench import load, storm
from bench.clock import Figures, milliseconds
from bench.incident_storm import PACK
from correlator.engine import Stamped
from correlator.importers import load_topology
from correlator.recording import Recording, open_recording, read
from correlator.replay import engine_for, ticks_until
from correlator.rules import RuleSet, load_pack
from correlator.topology import Topology
from firstfault.playback import spare_collections
from schemas.outputs import Action, Incident, Output

HOSTS, VMS, APPS = 125, 20, 2
SECONDS = 60.0
ONSET = 5.0


def single_fault() -> Figures:
    """Return, for each kind of fault, the steps and the time of the slowest, and what was said."""
    rules = load_pack(PACK)
    site = storm.build(HOSTS, VMS, APPS, None, 1)
    figures: Figures = {"entities": len(site.nodes)}
    rng = random.Random(1)
    for kind in storm.FaultKind:
        wanted = storm.FAULT_CLASSES[kind]["root"]
        roots = [(node["kind"], node["id"]) for node in site.nodes if node["kind"] == wanted]
        fault = storm.Fault(kind, rng.choice(roots), ONSET, 2 * SECONDS, 8)
        figures[kind.value] = _one(rules, site, fault)
    return figures


def _one(rules: RuleSet, site: storm.Site, fault: storm.Fault) -> Figures:
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        noise = storm.Noise()
        events = storm.storm(site, [fault], SECONDS, noise, 1)
        storm.write(Path(folder), site, events, storm.label(site, [fault], events, SECONDS, noise))
        recording = open_recording(Path(folder))
        topology = load_topology(Path(folder, "topology.json"), rules.schema)[0]
        return _folded(topology, rules, recording)


def _folded(topology: Topology, rules: RuleSet, recording: Recording) -> Figures:
    engine = engine_for(topology, rules, "bench")
    step, taken_s = engine.step, list[float]()

    def timed(record: Stamped) -> list[Output]:
        start = time.process_time()
        said = step(record)
        taken_s.append(time.process_time() - start)
        return said

    engine.step = timed  # type: ignore[method-assign]
    records = list(read(recording, load.refuse))
    spare_collections()
    said: list[Output] = []
    for record in records:
        said += (output for _, output in ticks_until(engine, record.log_us))
        said += engine.step(record)
    return {
        "events": len(records),
        "incidents": len({one.incident_id for one in said if isinstance(one, Incident)}),
        "actions": sum(isinstance(one, Action) for one in said),
        "p99_ms": milliseconds(taken_s, 0.99),
        "max_ms": milliseconds(taken_s, 1.0),
    }
