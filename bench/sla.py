"""Detection and recovery over the whole corpus: log time, so the same on every machine.

What the scripted actuators take (a second where a scenario says nothing else) is in it.
"""

from dataclasses import replace
from pathlib import Path

from bench.clock import Figures
from correlator.corpus import play
from correlator.recorded import Record, Said
from correlator.rules import load_pack
from correlator.scenarios import load_corpus
from correlator.sla import Outage, outages, report
from correlator.timeline import START_US
from schemas.base import from_microseconds
from schemas.outputs import Action, Decision, Incident

ROOT = Path(__file__).resolve().parents[1]


def sla() -> Figures:
    """Return the figures of each level, of all scenarios without noise together."""
    rules = load_pack(ROOT / "rules" / "nfvi")
    loaded = load_corpus(ROOT / "tests" / "corpus", rules)
    found: list[Outage] = []
    for one in loaded:
        said = [
            Said(offset=0, index=0, log_at=from_microseconds(START_US + told.at_us), output=output)
            for told in play(one, rules).story
            if isinstance(output := told.what, Incident | Decision | Action)
        ]
        under = replace(rules, settings=(*rules.settings, *one.scenario.settings))
        found += outages(Record({}, said, one.topology, {}), under)
    return {"scenarios": len(loaded), **report(found, rules.levels)}
