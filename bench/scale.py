"""Loads that break what grows faster than its input: equal alarms, many entities, many cases.

With rules/generic, as a new site would have it. Twice the load beside it shows what is
superlinear: `growth` is the time of the whole over that of the half, 2 where it is linear.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

from bench import load
from bench.clock import Figures, seconds
from correlator.recording import Recording
from correlator.replay import replay
from correlator.rules import RuleSet, load_pack
from correlator.topology import Topology

PACK = Path(__file__).resolve().parent.parent / "rules" / "generic"
ALARMS = 30_000
ENTITIES = 10_000
CASES = 500
CASE_EVENTS = 20


def scale() -> Figures:
    """Return seconds, growth and peak memory of each load; the peak is of the process so far."""
    names = load.entities(ENTITIES)
    topology = load.topology(names)
    vms = [name for name in names if name.startswith("vm:")]
    return {
        "equal_alarms_on_one_entity": _grown(topology, _equal(vms[:1])),
        "equal_alarms_on_10k_entities": _grown(topology, _equal(names)),
        "cases_of_10k_entities": _grown(topology, list(_cases(vms))),
    }


def _equal(names: list[str]) -> list[bytes]:
    return [
        load.imported_line(number, names[number % len(names)], "alarm.raised")
        for number in range(ALARMS)
    ]


def _cases(vms: list[str]) -> Iterator[bytes]:
    """Yield the events of independent cases: some neighbours alarm in each."""
    for case in range(CASES):
        for number in range(CASE_EVENTS):
            vm = vms[(case * 7 + number) % len(vms)]
            line = load.imported_line(number, vm, "alarm.raised")
            yield line.replace(b'"admin": "up"', b'"case": "case-%d"' % case)


def _grown(topology: Topology, lines: list[bytes]) -> Figures:
    rules = load_pack(PACK)
    with tempfile.TemporaryDirectory() as folder:
        half, whole = Path(folder, "half"), Path(folder, "whole")
        half.mkdir()
        whole.mkdir()
        part = load.imported_folder(half, lines[: len(lines) // 2])
        recording = load.imported_folder(whole, lines)
        half_s = seconds(lambda: _replayed(part, topology, rules))
        whole_s = seconds(lambda: _replayed(recording, topology, rules))
    return {
        "events": len(lines),
        "seconds": round(whole_s, 3),
        "growth": round(whole_s / half_s, 2),
        "peak_resident_megabytes": round(getrusage(RUSAGE_SELF).ru_maxrss / 1e3),
    }


def _replayed(recording: Recording, topology: Topology, rules: RuleSet) -> None:
    for _ in replay(recording, topology, rules, load.refuse):
        pass
