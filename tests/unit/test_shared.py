"""What domains share: what is told of it, and what waits for the region's word."""

import json

import pytest

from correlator.engine import Engine
from correlator.rules.ruleset import SymptomSpec
from correlator.state import restore
from schemas.inputs import Tick, Verdict
from schemas.outputs import Action, Decision, Digest, Output
from schemas.rules import Policy
from tests.worlds import (
    SCHEMA,
    SIGNATURES,
    SYMPTOMS,
    Row,
    at,
    engine,
    event,
    feed,
    roots,
    rule_set,
    signature,
)

SHARED = "pool:p"
VERDICTS = (
    SymptomSpec("verdict.failed", signals=("verdict.failed",), spurious=1e-6),
    SymptomSpec("verdict.working", signals=("verdict.working",), spurious=1e-6),
)
JUDGED = signature(
    "pool-fault",
    "pool",
    ("vm.down", "vm", 0.9),
    ("app.down", "vm.app", 0.9),
    ("verdict.failed", "self", 0.5),
    prior=1e-5,
)
POLICY = Policy.model_validate(
    {
        "kind": "policy",
        "name": "p",
        "cause": "*",
        "confidence": ">= 0.9",
        "do": [{"notify": {}}, {"restart_vm": {"target": "$root.vm"}}],
    }
)
DOWN: list[Row] = [
    (10.0, event(f"{kind}:r0h0v{n}", f"{kind}.down")) for n in range(2) for kind in ("vm", "app")
]
UP: list[Row] = [
    (20.0, event(one.entity, one.signal, "cleared")) for _, one in DOWN if one.type == "event"
]


def word(second: float, state: str, resource: str = SHARED, lasts_s: float = 60.0) -> Row:
    given = {"resource": resource, "state": state, "expires_at": at(second + lasts_s)}
    return second, Verdict.model_validate(given)


def judged() -> Engine:
    """Return an engine whose hosts share a pool with other domains."""
    others = [one for one in SIGNATURES if one.name != "pool-fault"]
    rules = rule_set([*others, JUDGED], [*SYMPTOMS, *VERDICTS], [POLICY], gather="0s")
    return engine(rules, ticks="recorded")


def live(rows: list[Row]) -> list[Row]:
    """Return rows in a live log, which has a tick each 50 ms."""
    ticks: list[Row] = [(n / 20, Tick()) for n in range(700)]
    return sorted([*rows, *ticks], key=lambda one: one[0])


def said(rows: list[Row], folding: Engine | None = None) -> list[tuple[float, Output]]:
    """Return what is said, and when."""
    folding = folding or judged()
    found = []
    for number, row in enumerate(live(rows)):
        found += [(row[0], output) for output in feed(folding, [row], number)]
    return found


def digests(told: list[tuple[float, Output]]) -> list[tuple[str, str]]:
    return [(one.resource, one.state) for _, one in told if isinstance(one, Digest)]


def first(told: list[tuple[float, Output]], verb: str) -> float | None:
    return next((t for t, one in told if isinstance(one, Action) and one.verb == verb), None)


def codes(told: list[tuple[float, Output]]) -> set[str]:
    return {one.reason for _, one in told if isinstance(one, Decision)}


def test_nothing_is_told_of_what_the_region_never_spoke_of() -> None:
    told = said(DOWN)
    assert digests(told) == []
    assert first(told, "notify") == 10.0


def test_what_is_thought_of_a_shared_resource_is_told_when_it_changes() -> None:
    told = said([word(1.0, "unknown"), *DOWN, *UP])
    assert [state for _, state in digests(told)] == ["working", "suspected", "working"]


def test_an_ambiguous_cause_waits_a_moment_and_then_only_what_is_harmless_leaves() -> None:
    told = said([word(1.0, "unknown"), *DOWN])
    assert first(told, "notify") == pytest.approx(10.3, abs=0.06)
    assert first(told, "restart_vm") is None
    assert {"region_asked", "region_silent"} <= codes(told)


def test_a_region_that_does_not_know_is_waited_for_no_longer() -> None:
    told = said([word(1.0, "unknown"), *DOWN, word(10.12, "unknown")])
    assert first(told, "notify") == pytest.approx(10.15, abs=0.06)
    assert "region_silent" in codes(told)


def test_what_works_elsewhere_is_no_rival_any_more() -> None:
    told = said([word(1.0, "unknown"), *DOWN, word(10.12, "working")])
    assert first(told, "notify") == pytest.approx(10.15, abs=0.06)
    assert "region_silent" not in codes(told)


def test_an_old_word_is_no_answer() -> None:
    told = said([word(1.0, "working"), *DOWN])
    assert first(told, "notify") == pytest.approx(10.3, abs=0.06)
    assert "region_silent" in codes(told)


def test_what_the_region_says_has_failed_is_the_cause() -> None:
    told = said([word(1.0, "unknown"), *DOWN, word(10.12, "failed")])
    assert roots([one for _, one in told]) == [SHARED]
    assert first(told, "restart_vm") is None


def test_a_word_about_what_is_not_here_changes_nothing() -> None:
    told = said([word(1.0, "unknown", "pool:elsewhere"), *DOWN])
    assert digests(told) == []
    assert first(told, "notify") == 10.0


def test_a_word_that_has_expired_is_none() -> None:
    told = said([word(1.0, "unknown"), *DOWN, word(10.12, "working", lasts_s=0.2)])
    assert first(told, "restart_vm") is None
    assert "region_silent" in codes(told)


@pytest.mark.parametrize("second", [5.0, 10.05, 10.2, 15.0])
def test_a_successor_goes_on_where_its_predecessor_ended(second: float) -> None:
    rows = live([word(1.0, "unknown"), *DOWN, word(10.12, "working"), *UP])
    before, whole = judged(), judged()
    feed(whole, rows)
    early = [row for row in rows if row[0] <= second]
    feed(before, early)
    after = Engine(restore(json.loads(before.state.text()), SCHEMA), before.rules)
    feed(after, rows[len(early) :], len(early))
    assert after.state.text() == whole.state.text()
