"""What holds of every log: doubles, order, restarts, explained symptoms, odd inputs, hash seeds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from correlator.engine import Engine, Stamped
from correlator.replay import fold
from correlator.rules import load_pack
from correlator.rules.ruleset import RuleSet
from correlator.state import restore
from schemas.base import canonical
from schemas.inputs import OwnerClaim, Tick
from schemas.outputs import Incident, Output
from tests.properties.strategies import FAULTS, LIBRARY, logs, shifted, storms
from tests.worlds import RULES, Row, engine, event, incidents, log, roots, rule_set

MODES = st.sampled_from(["synthesised", "recorded"])


GENERIC = load_pack(Path(__file__).resolve().parents[2] / "rules" / "generic")
KINDS_OF_RULES = st.sampled_from([RULES, GENERIC])


def started(ticks: str = "synthesised", rules: RuleSet = RULES) -> Engine:
    return engine(rules, ticks=ticks, library=(*LIBRARY, GENERIC))


def text(outputs: list[Output]) -> list[str]:
    return [canonical(output.model_dump(mode="json")) for output in outputs]


def folded(folding: Engine, records: list[Stamped]) -> list[str]:
    return text([output for _, output in fold(folding, records)])


def state_of(folding: Engine) -> dict[str, object]:
    """Return the state without its counters, which may count what changed nothing."""
    return {k: v for k, v in folding.state.document().items() if k != "counters"}


@given(logs(), MODES, KINDS_OF_RULES)
@settings(max_examples=200)
def test_no_input_makes_a_step_raise(rows: list[Row], ticks: str, rules: RuleSet) -> None:
    folding = started(ticks, rules)
    outputs = folded(folding, list(log(rows)))
    assert all(json.loads(one) for one in outputs)
    assert json.loads(folding.state.text())


NOTHING = OwnerClaim(owner="nobody", supersedes=-1)
"""An input that changes nothing under any rules."""


@given(storms(), KINDS_OF_RULES, st.data())
@settings(max_examples=60)
def test_a_duplicate_changes_nothing(rows: list[Row], rules: RuleSet, data: st.DataObject) -> None:
    """The log with doubles is held against one with as many inputs that mean nothing."""
    doubled: list[Row] = []
    plain: list[Row] = []
    seen: list[Row] = []
    for row in rows:
        seen.append(row)
        again = data.draw(st.lists(st.sampled_from(seen), max_size=2))
        doubled += [row, *((row[0], one) for _, one in again)]
        plain += [row, *((row[0], NOTHING) for _ in again)]
    with_doubles, without = started(rules=rules), started(rules=rules)
    assert folded(with_doubles, list(log(doubled))) == folded(without, list(log(plain)))
    assert state_of(with_doubles) == state_of(without)


def restarted(folding: Engine) -> Engine:
    """Return an engine that goes on from a snapshot of another."""
    document = json.loads(folding.state.text())
    library = {rules.hash: rules for rules in (*LIBRARY, GENERIC)}
    return Engine(restore(document, folding.state.topology.schema), RULES, library)


@given(logs(), st.integers(0, 30), MODES, KINDS_OF_RULES)
@settings(max_examples=80)
def test_a_snapshot_and_a_restart_change_nothing(
    rows: list[Row], cut: int, ticks: str, rules: RuleSet
) -> None:
    records = ticking(rows) if ticks == "recorded" else list(log(rows))
    through, stopped = started(ticks, rules), started(ticks, rules)
    whole = text([one for record in records for one in through.step(record)])
    parts = text([one for record in records[:cut] for one in stopped.step(record)])
    going_on = restarted(stopped)
    assert going_on.state.text() == stopped.state.text()
    parts += text([one for record in records[cut:] for one in going_on.step(record)])
    assert parts == whole
    assert going_on.state.text() == through.state.text()


@given(storms(), st.data())
@settings(max_examples=60)
def test_a_restart_in_a_storm_changes_nothing(rows: list[Row], data: st.DataObject) -> None:
    records = ticking(rows)
    cut = data.draw(st.integers(0, len(records)))
    through, stopped = started("recorded"), started("recorded")
    whole = text([one for record in records for one in through.step(record)])
    parts = text([one for record in records[:cut] for one in stopped.step(record)])
    going_on = restarted(stopped)
    parts += text([one for record in records[cut:] for one in going_on.step(record)])
    assert parts == whole
    assert going_on.state.text() == through.state.text()


def ticking(rows: list[Row]) -> list[Stamped]:
    """Return a live log of the rows: a tick each half second between them, and 30 s after."""
    whole: list[Row] = []
    ends = [*(row[0] for row in rows[1:]), *(row[0] + 30 for row in rows[-1:])]
    for row, end in zip(rows, ends, strict=True):
        count = min(60, max(0, int((end - row[0]) * 2)))
        whole += [row, *((row[0] + (n + 1) / 2, Tick()) for n in range(count))]
    return list(log(whole))


PATIENT = rule_set(wait="5s", wait_max="5s", lateness="3s", settle="20s")
"""Waits until every symptom of a cause may have come (within 2 s, and 3 s late)."""


def last_word(rows: list[Row]) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the last causes named and the set of actions sent, each sorted."""
    outputs = [output for _, output in fold(started(rules=PATIENT), log(rows))]
    acts = {(one.verb, one.target) for one in outputs if one.type == "action"}
    return sorted(set(roots(outputs))), sorted(acts)


@given(storms(clears=False), st.data())
@settings(max_examples=80)
def test_order_inside_the_lateness_changes_no_cause_and_no_action(
    rows: list[Row], data: st.DataObject
) -> None:
    late = st.integers(0, 10).map(lambda tenths: tenths / 10)
    delays = {n: data.draw(late) for n in range(len(rows))}
    assert last_word(rows) == last_word(shifted(rows, delays))


@given(storms(), st.data())
@settings(max_examples=80)
def test_order_inside_the_lateness_changes_not_what_stands(
    rows: list[Row], data: st.DataObject
) -> None:
    late = st.integers(0, 19).map(lambda tenths: tenths / 10)
    moved = shifted(rows, {n: data.draw(late) for n in range(len(rows))})
    standing = []
    for given_rows in (rows, moved):
        folding = started()
        for record in log([*given_rows, (80.0, Tick())]):
            folding.step(record)
        sightings = folding.state.sightings
        standing.append(sorted(key for key, one in sightings.items() if one.cleared_us is None))
    assert standing[0] == standing[1]


@pytest.mark.parametrize("root", sorted(FAULTS))
@given(data=st.data())
@settings(max_examples=25)
def test_a_symptom_that_the_cause_explains_adds_no_cause(root: str, data: st.DataObject) -> None:
    shows = FAULTS[root]
    some = data.draw(st.lists(st.sampled_from(shows), min_size=1, unique=True))
    more = data.draw(st.sampled_from(shows))
    rows: list[Row] = [(0.0, event(*one)) for one in some]
    before = started(rules=PATIENT)
    alone = roots([output for _, output in fold(before, log(rows))])
    after = started(rules=PATIENT)
    joined = roots([output for _, output in fold(after, log([*rows, (0.5, event(*more))]))])
    if alone == [root]:
        assert joined == [root]
    assert len(set(joined)) <= len(set(alone)) or root not in alone


PROGRAM = """
import sys
from hypothesis import HealthCheck, given, seed, settings
from correlator.replay import fold
from schemas.base import canonical
from tests.properties.strategies import LIBRARY, logs, storms
from tests.worlds import RULES, engine, log

@seed(7)
@settings(max_examples=15, database=None, derandomize=False, deadline=None,
          suppress_health_check=list(HealthCheck))
@given(storms(), logs())
def say(storm, rows):
    for given_rows in (storm, rows):
        folding = engine(library=LIBRARY)
        for _, output in fold(folding, log(given_rows)):
            print(canonical(output.model_dump(mode="json")))
        print(folding.state.text())

say()
"""


def test_two_hash_seeds_give_the_same_bytes() -> None:
    root = Path(__file__).resolve().parents[2]
    said = [
        subprocess.run(  # noqa: S603 - our own program, in our own interpreter
            [sys.executable, "-c", PROGRAM],
            check=True,
            capture_output=True,
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
        ).stdout
        for seed in ("1", "4242")
    ]
    assert said[0] == said[1]
    assert said[0].count(b'"type":"incident"') > 0


def test_the_faults_of_these_logs_are_found() -> None:
    for root, shows in FAULTS.items():
        told = [o for _, o in fold(started(), log([(0.0, event(*one)) for one in shows]))]
        assert set(roots(told)) == {root}
        assert all(isinstance(one, Incident) for one in incidents(told))
