"""Five folds on a recorded NFV environment: fit on four campaigns, score the fifth, pool them.

The recording holds five repeats of one campaign of 185 labelled faults. The held-out campaign's
labels are read for scoring alone, after its replay. Where the recording is absent this says so.
"""

import bisect
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from bench import load
from bench.clock import Figures
from correlator.engine import Stamped
from correlator.fit import fit, read_labelled
from correlator.importers import load_topology
from correlator.recording import Recording, open_recording, read
from correlator.replay import engine_for, fold, renumbered
from correlator.rules import RuleSet, load_pack
from correlator.score import History, Label, histories, score
from correlator.topology import Topology
from schemas.inputs import Event
from schemas.outputs import Incident

ROOT = Path(__file__).resolve().parent.parent
RECORDING = "kddi-nfv-learn"
CAMPAIGNS = 5
LEAD_S = 300.0
"""A campaign begins this long before its first label; the rest before belongs to the last one."""
HIJACK = "bgp_hijack"
"""Its events name where the false route arrives, never where it came from."""
TOLD = (
    "hit_at_1",
    "hit_at_3",
    "kind_at_1",
    "false_incidents_per_hour",
    "incidents_per_answered_label",
    "delay_s",
    "labels",
    "by_fault",
)

Found = dict[tuple[str, str], History]
Spans = dict[str, tuple[float, float]]


def kddi() -> Figures:
    """Return the five folds of rules/ip-core, and rules/generic as it is on the whole."""
    folder = Path(os.environ.get("FIRSTFAULT_DATA") or ROOT.parent / "shared" / "data") / RECORDING
    if not folder.is_dir():
        return {"left_out": f"{folder} is not a folder (FIRSTFAULT_DATA names another)"}
    recording = open_recording(folder)
    return {"ip_core_five_folds": _five_folds(recording), "generic": _generic(recording)}


def _five_folds(recording: Recording) -> Figures:
    rules, topology, records = _opened(recording, "ip-core")
    data = read_labelled(recording, topology, rules)
    size = len(data.labels) // CAMPAIGNS
    starts = [data.labels[number * size].ts - LEAD_S for number in range(CAMPAIGNS)]
    found: Found = {}
    spans: Spans = {}
    labels: list[Label] = []
    for number, start_s in enumerate(starts):
        of_campaign = slice(number * size, (number + 1) * size)
        training = [*data.labels[: of_campaign.start], *data.labels[of_campaign.stop :]]
        fitted = fit(rules, [replace(data, labels=training)], discover=True).rules or rules
        until_s = starts[number + 1] if number + 1 < CAMPAIGNS else float("inf")
        held_out = [r for r in records if start_s <= r.log_us / 1e6 < until_s]
        case = f"campaign-{number + 1}"
        found.update(_replayed(held_out, topology, fitted, case))
        spans[case] = _span(held_out)
        labels += [replace(label, case=case) for label in data.labels[of_campaign]]
    figures = score(labels, found, spans)
    raised = sorted(record.log_us / 1e6 for record in records if _is_raised(record))
    shown = [x for x in labels if x.fault_type != HIJACK and _any_within(raised, x)]
    visible = {key: value for key, value in score(shown, found, spans).items() if key in TOLD[:3]}
    return {
        **{name: figures[name] for name in TOLD},
        "without_hijack_and_silent": {"labels": len(shown), **visible},
    }


def _is_raised(record: Stamped) -> bool:
    return isinstance(record.input, Event) and record.input.state == "raised"


def _any_within(moments: list[float], label: Label) -> bool:
    """Claim that one of the sorted moments lies in the label's window."""
    first = bisect.bisect_left(moments, label.ts)
    return first < len(moments) and moments[first] <= label.end_ts


def _generic(recording: Recording) -> Figures:
    rules, topology, records = _opened(recording, "generic")
    labels = read_labelled(recording, topology, rules).labels
    found = _replayed(records, topology, rules, "")
    figures = score(labels, found, {"": _span(records)})
    return {name: figures[name] for name in TOLD}


def _opened(recording: Recording, pack: str) -> tuple[RuleSet, Topology, list[Stamped]]:
    rules = load_pack(ROOT / "rules" / pack)
    topology = load_topology(recording.topology or Path(), rules.schema)[0]
    return rules, topology, list(renumbered(read(recording, load.refuse)))


def _replayed(records: Iterable[Stamped], topology: Topology, rules: RuleSet, case: str) -> Found:
    engine = engine_for(topology.copy(), rules, f"{RECORDING}/{case}")
    outputs = (output for _, output in fold(engine, records))
    return histories((case, output) for output in outputs if isinstance(output, Incident))


def _span(records: list[Stamped]) -> tuple[float, float]:
    return records[0].log_us / 1e6, records[-1].log_us / 1e6
