"""What the engine holds of each entity: topology, state and codebook, after a large storm."""

import gc
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

from bench import load, storm
from bench.clock import Figures
from bench.incident_storm import PACK
from correlator.importers import load_topology
from correlator.recording import read
from correlator.replay import engine_for
from correlator.rules import RuleSet, load_pack
from correlator.topology import Topology

ENTITIES = 100_000
SHARE_HIT = 10
"""One host in so many fails, and with it everything that it carries."""


def bytes_per_entity() -> Figures:
    """Return bytes per entity of the topology alone, and of all that the engine holds.

    The topology is that of the storm generator at 100,000 entities; every tenth host fails, so a
    tenth of the entities is touched. No time passes: what a look leaves behind is not in it.
    """
    with tempfile.TemporaryDirectory() as folder:
        _write_site(Path(folder))
        rules = load_pack(PACK)
        gc.collect()
        tracemalloc.start()
        try:
            topology = load_topology(Path(folder, "topology.json"), rules.schema)[0]
            topology_bytes = _held_bytes()
            return _after_storm(Path(folder), topology, rules, topology_bytes)
        finally:
            tracemalloc.stop()


def _held_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def _write_site(folder: Path) -> None:
    """Write the generator's topology of about so many entities, without events."""
    hosts = round(ENTITIES * 100 / len(storm.build(100, load.VMS_PER_HOST, load.APPS_PER_VM).nodes))
    storm.write(folder, storm.build(hosts, load.VMS_PER_HOST, load.APPS_PER_VM), [], [])


def _after_storm(folder: Path, topology: Topology, rules: RuleSet, topology_bytes: int) -> Figures:
    """Fold the failure of every tenth host; look at the memory before what follows is drained."""
    alarms = list(_alarms(topology))
    touched = len({entity for entity, _ in alarms})
    lines = [load.wire_line(n, entity, signal) for n, (entity, signal) in enumerate(alarms)]
    recording = load.wire_file(folder, lines)
    del alarms, lines
    engine = engine_for(topology, rules, "bench")
    figures: Figures = {"entities": len(topology), "touched": touched}

    for record in read(recording, load.refuse):
        engine.step(record)
    figures["sightings"] = len(engine.state.sightings)
    figures["topology_bytes_per_entity"] = round(topology_bytes / len(topology))
    figures["bytes_per_entity"] = round(_held_bytes() / len(topology))
    return figures


def _alarms(topology: Topology) -> Iterator[tuple[str, str]]:
    hosts = [node for node in topology if node.startswith("host:")]
    for host in hosts[::SHARE_HIT]:
        yield host, "os.hb.lost"
        for near in topology.down[host]:
            kind = near.partition(":")[0]
            if kind == "vm":
                yield near, "vm.hb.lost"
                yield from (
                    (app, "app.hb.lost") for app in topology.down[near] if app[:4] == "app:"
                )
