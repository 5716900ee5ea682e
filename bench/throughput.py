"""Decode and fold: events that match nothing, 10 against 300 rules, 1 k against 100 k entities."""

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import load
from bench.clock import Figures, beside_json
from correlator.recording import Recording, read
from correlator.replay import engine_for, fold
from correlator.rules import RuleSet
from correlator.topology import Topology

EVENTS = 50_000
RULES_FEW, RULES_MANY = 10, 300
ENTITIES_FEW, ENTITIES_MANY = 1_000, 100_000


def non_matching() -> Figures:
    """Return decode alone and decode with fold, for both formats of a recording."""
    names = load.entities(ENTITIES_FEW)
    topology = load.topology(names)
    figures: Figures = {}
    for style, line, write in (
        ("wire", load.wire_line, load.wire_file),
        ("imported", load.imported_line, load.imported_folder),
    ):
        lines = [line(n, names[n % len(names)], load.NOISE) for n in range(EVENTS)]
        with tempfile.TemporaryDirectory() as folder:
            recording = write(Path(folder), lines)
            rules = load.pack(Path(folder, "pack"), RULES_FEW)
            runs = {
                "decode": _decoding(recording),
                "decode_fold": _folding(recording, topology, rules),
            }
            figures[style] = beside_json(runs, lines)
    return figures


def rules_10_300() -> Figures:
    """Return decode with fold under few and many rules; half of the events match one of them."""
    names = load.entities(ENTITIES_FEW)
    topology = load.topology(names)
    signals = [load.NOISE, *(f"signal.{number}" for number in range(RULES_FEW))]
    lines = [
        load.wire_line(n, names[0], signals[n // 2 % len(signals) if n % 2 else 0])
        for n in range(EVENTS)
    ]
    silent = [load.wire_line(n, names[n % len(names)], load.NOISE) for n in range(EVENTS)]
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        few = load.pack(Path(folder, "few"), RULES_FEW)
        many = load.pack(Path(folder, "many"), RULES_MANY)
        for kind, given in (("non_matching", silent), ("half_matching", lines)):
            recording = load.wire_file(Path(folder), given)
            runs = {
                "rules_10": _folding(recording, topology, few),
                "rules_300": _folding(recording, topology, many),
            }
            figures[kind] = _with_ratio(beside_json(runs, given), "rules_300", "rules_10")
    return figures


def entities_1k_100k() -> Figures:
    """Return decode with fold of events that match, each entity of the site once.

    Every event misses every cache of its entity. No time passes, so nothing is explained: that
    is measured in the storm.
    """
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        rules = load.pack(Path(folder, "pack"), RULES_FEW)
        lines: list[bytes] = []
        runs: dict[str, Callable[[], object]] = {}
        for name, count in (("entities_1k", ENTITIES_FEW), ("entities_100k", ENTITIES_MANY)):
            names = load.entities(count)
            topology = load.topology(names)
            chosen = random.Random(count).sample(names, len(names))
            lines = [load.wire_line(n, entity, "signal.0") for n, entity in enumerate(chosen)]
            place = Path(folder, name)
            place.mkdir()
            recording = load.wire_file(place, lines)
            rounds = ENTITIES_MANY // len(lines)
            figures[name] = {"nodes": len(topology), "fresh_engines": rounds}
            runs[name] = _cold(recording, topology, rules, rounds)
        measured = beside_json(runs, lines, repeats=3)
    return {**figures, **_with_ratio(measured, "entities_100k", "entities_1k")}


def _with_ratio(figures: Figures, large: str, small: str) -> Figures:
    ratio = figures[large]["us_per_event"] / figures[small]["us_per_event"]
    return {**figures, f"{large}_over_{small}": round(ratio, 3)}


def _decoding(recording: Recording) -> Callable[[], object]:
    return lambda: load.decode_all(recording)


def _folding(recording: Recording, topology: Topology, rules: RuleSet) -> Callable[[], object]:
    def run() -> None:
        engine = engine_for(topology.copy(), rules, "bench")
        for _ in fold(engine, read(recording, load.refuse)):
            pass

    return run


def _cold(
    recording: Recording, topology: Topology, rules: RuleSet, rounds: int
) -> Callable[[], object]:
    def run() -> None:
        for _ in range(rounds):
            engine = engine_for(topology, rules, "bench")
            for record in read(recording, load.refuse):
                engine.step(record)

    return run
