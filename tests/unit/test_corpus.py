"""The corpus: how scenarios are read, what noise does, and that its claims can fail."""

from dataclasses import replace
from pathlib import Path

import pytest

from correlator.claims import has_come
from correlator.corpus import Played, play
from correlator.rules import RuleFaults, RuleSet
from correlator.scenarios import Entry, Loaded, load_corpus, parse_inject
from schemas.inputs import Command, Event, Level, Pulse, Result
from schemas.outputs import Action, Incident
from schemas.rules import Policy
from tests.worlds import POLICIES, RULES, rule_set

SCENARIO = """\
id: C01-dead-host
row: C01
title: A host is silent.
topology: {h1: {v1: [a1], v2: []}, h2: {v3: []}}
inject: |
  1s! host.down host:h1 source=probe-a plane=mgmt
  1s! host.down host:h1 source=probe-b plane=tenant
  1.2s! vm.down vm:v1 vm:v2 source=probe-b plane=tenant
  1.4s host.down host:h1 source=probe-c plane=storage
expect:
  - {action: fence, target: "host:h1", by: 10s}
  - {action: evacuate_vm, target: ["vm:v1", "vm:v2"], after: "fence.CONFIRMED host:h1"}
forbid:
  - {action: evacuate_vm, before: "fence.CONFIRMED host:h1"}
  - {action: fence, target: "host:!h1"}
incidents: {exactly: 1, root: "host:h1"}
"""


def _load(folder: Path, text: str = SCENARIO, rules: RuleSet = RULES) -> Loaded:
    (folder / "C01-dead-host.yaml").write_text(text, encoding="utf-8")
    return load_corpus(folder, rules)[0]


def _verbs(played: Played) -> list[str]:
    return [one.what.verb for one in played.story if isinstance(one.what, Action)]


def _failures(played: Played) -> list[str]:
    return [f"{one.text}: {one.failure}" for one in played.verdicts if one.failure]


# ---- reading -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "kind", "times_s"),
    [
        pytest.param("1.5s os.panic host:h1", Event, [1.5], id="an event"),
        pytest.param("2s..10s/4s os.panic host:h1", Event, [2, 6, 10], id="a repeated event"),
        pytest.param("1s pulse collector:h1 host=host:h1", Pulse, [1], id="a pulse"),
        pytest.param("1s level c:1/link nic.carrier.down@nic:h1/e0", Level, [1], id="a level"),
        pytest.param(
            '1s maintenance_start host:h1 until=60s by=op reason="DIMM swap"',
            Command,
            [1],
            id="a command",
        ),
    ],
)
def test_a_line_becomes_what_arrives(line: str, kind: type, times_s: list[float]) -> None:
    entries, faults = parse_inject(line)
    assert faults == []
    assert [entry.at_us / 1e6 for entry in entries] == times_s
    assert all(isinstance(one, kind) for entry in entries for one in entry.inputs)


def test_each_telling_has_an_id_of_its_own() -> None:
    entries, _ = parse_inject("1s..3s/1s os.panic host:h1 host:h2")
    ids = [one.event_id for entry in entries for one in entry.inputs if isinstance(one, Event)]
    assert len(set(ids)) == 6


def test_only_events_and_pulses_without_a_mark_may_be_lost() -> None:
    lines = (
        "1s a.b host:h1\n1s! a.b host:h1\n1s pulse c:1\n1s hold pod by=op\n1s gap 5s\n1s restart"
    )
    assert [entry.may_drop for entry in parse_inject(lines)[0]] == [True, False, True] + 3 * [False]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        pytest.param("title:", "titel:", ":3:1: error [unknown-key]", id="an unknown key"),
        pytest.param("by: 10s", "by: 10", ":11:44: error [bad-value]", id="no unit"),
        pytest.param("row: C01", "row: C02", "the id begins with the row", id="another row"),
        pytest.param("id: C01-dead-host", "id: C01-x", "the file is named", id="another name"),
        pytest.param("1.4s host.down", "1.4 host.down", ":9:1: error [line]", id="a bad time"),
        pytest.param("down host:h1 source=probe-c", "down host:h9", ":9:1:", id="no such entity"),
        pytest.param('"host:!h1"', '"hots:*"', ":15:5: error [unknown-name]", id="an empty claim"),
        pytest.param("CONFIRMED host", "DONE host", "write VERB.STATE", id="no such moment"),
        pytest.param("{action: fence, t", "{root: h, t", "has a root, no target", id="two claims"),
        pytest.param(
            '{action: fence, target: "host:h1", b', "{b", "speak of one thing", id="no claim"
        ),
        pytest.param(
            '{action: fence, target: "host:!h1"}', "{root: x, times: 2}", "belong to", id="odd"
        ),
        pytest.param("id: C01", "- id: C01", ":2:1: error [yaml]", id="no YAML"),
    ],
)
def test_what_is_wrong_is_told_where_it_stands(
    tmp_path: Path, before: str, after: str, told: str
) -> None:
    with pytest.raises(RuleFaults) as raised:
        _load(tmp_path, SCENARIO.replace(before, after))
    assert told in str(raised.value)


# ---- playing -------------------------------------------------------------------------------


def test_the_loop_is_closed(tmp_path: Path) -> None:
    played = play(_load(tmp_path), RULES)
    assert _failures(played) == []
    assert _verbs(played) == ["quarantine", "fence", "evacuate_vm", "evacuate_vm"]


@pytest.mark.parametrize("seed", range(5))
def test_a_seed_tells_one_story(tmp_path: Path, seed: int) -> None:
    loaded = _load(tmp_path)
    assert play(loaded, RULES, seed) == play(loaded, RULES, seed)


@pytest.mark.parametrize(
    ("actuator", "missing"),
    [
        pytest.param("reply: FAILED", "evacuate_vm", id="a fence that fails"),
        pytest.param("reply: silent", "evacuate_vm", id="no answer"),
        pytest.param("proof: {observed_state: ON}", "evacuate_vm", id="no proof"),
        pytest.param('target: "host:h2", reply: FAILED', None, id="another's fence"),
    ],
)
def test_actuators_follow_their_script(tmp_path: Path, actuator: str, missing: str | None) -> None:
    text = f"{SCENARIO}actuators: [{{verb: fence, {actuator}}}]\n"
    assert (missing in _verbs(play(_load(tmp_path, text), RULES))) is False
    assert ("evacuate_vm" in _verbs(play(_load(tmp_path, text), RULES))) is (missing is None)


def test_an_answer_may_be_given_so_often_only(tmp_path: Path) -> None:
    answers = "[{verb: quarantine, reply: FAILED, times: 1}, {verb: quarantine, reply: UNKNOWN}]"
    played = play(_load(tmp_path, f"{SCENARIO}actuators: {answers}\n"), RULES)
    states = [one.what.state for one in played.story if isinstance(one.what, Result)]
    assert states[0] == "FAILED"


def test_noise_never_loses_what_is_marked(tmp_path: Path) -> None:
    loaded = _load(tmp_path, f"{SCENARIO}noise: {{drop: 100%, dup: 100%, reorder: 300ms}}\n")
    told = [one for one in play(loaded, RULES, 1).story if isinstance(one.what, Entry)]
    lost = [one for one in told if one.note == "lost"]
    assert [one.what.text for one in lost if isinstance(one.what, Entry)] == [
        "host.down host:h1 source=probe-c plane=storage"
    ]
    assert sum(one.note == "again" for one in told) == 3
    assert play(loaded, RULES, 1).story != play(loaded, RULES, 2).story


def test_nothing_is_read_in_a_gap(tmp_path: Path) -> None:
    text = SCENARIO.replace("  1.2s!", "  1.1s gap 5s\n  1.2s!")
    story = play(_load(tmp_path, text), RULES).story
    assert not [one for one in story if 1.1e6 < one.at_us < 6.1e6]
    assert [one.what.text for one in story if isinstance(one.what, Entry)][3:] == [
        "vm.down vm:v1 vm:v2 source=probe-b plane=tenant",
        "host.down host:h1 source=probe-c plane=storage",
    ]


def test_a_restart_changes_nothing(tmp_path: Path) -> None:
    text = SCENARIO.replace("expect:", "  2.5s restart\n  4.4s restart\nexpect:", 1)
    assert _verbs(play(_load(tmp_path, text), RULES)) == _verbs(play(_load(tmp_path), RULES))


def test_a_clock_that_is_off_dates_what_its_source_says(tmp_path: Path) -> None:
    text = f"{SCENARIO}noise: {{skew: {{probe-a: -90s}}}}\n"
    played = play(_load(tmp_path, text), RULES)
    dates = [
        given.at.timestamp() % 3600
        for one in played.story
        if isinstance(one.what, Entry)
        for given in one.what.inputs
        if isinstance(given, Event) and given.at
    ]
    assert dates[:2] == [3511.0, pytest.approx(1.0)]


# ---- claims --------------------------------------------------------------------------------


def _unguarded() -> RuleSet:
    """The rules of a careless author: VMs are evacuated at once."""
    careless = POLICIES[0].model_dump(by_alias=True) | {"hold": "0s", "guard": {}}
    careless["do"] = [{"fence": {}}, {"evacuate_vm": {"target": "$root.vm"}}]
    return rule_set(policies=[Policy.model_validate(careless)])


def test_an_evacuation_before_the_fence_is_found_out(tmp_path: Path) -> None:
    played = play(_load(tmp_path), _unguarded())
    assert played.failed
    wrong = {one.kind for one in played.verdicts if one.failure}
    assert wrong == {"expect", "forbid", "always"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("by: 10s", "by: 1s", id="too late"),
        pytest.param("by: 10s", "since: 20s", id="too early"),
        pytest.param("by: 10s", "times: 2", id="not so often"),
        pytest.param("by: 10s", "method: pdu_off", id="by another method"),
        pytest.param("by: 10s", "parameters: {to: x}", id="with other parameters"),
        pytest.param("by: 10s", "before: quarantine.SENT", id="after what it should precede"),
        pytest.param("exactly: 1", "exactly: 2", id="another number of incidents"),
        pytest.param('root: "host:h1"}', 'root: "host:h2"}', id="another root"),
        pytest.param('target: "host:!h1"', 'target: "host:!h2"', id="what is forbidden"),
    ],
)
def test_a_claim_can_fail(tmp_path: Path, before: str, after: str) -> None:
    played = play(_load(tmp_path, SCENARIO.replace(before, after)), RULES)
    assert len(_failures(played)) == 1


@pytest.mark.parametrize(
    "claim",
    [
        pytest.param('{root: "host:*", signature: host-fault, confidence: 0.9}', id="an incident"),
        pytest.param("{state: open, by: 5s}", id="its state"),
        pytest.param('{reason: needs_proof, target: "host:h1"}', id="a decision"),
        pytest.param('{action: [fence, page], target: "host:h1"}', id="one of some actions"),
    ],
)
def test_a_claim_can_be_met_and_what_is_met_can_be_forbidden(tmp_path: Path, claim: str) -> None:
    met = SCENARIO.replace("forbid:", f"  - {claim}\nforbid:")
    assert _failures(play(_load(tmp_path, met), RULES)) == []
    forbidden = SCENARIO.replace("forbid:", f"forbid:\n  - {claim}")
    assert len(_failures(play(_load(tmp_path, forbidden), RULES))) == 1


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        pytest.param("by: 1s, pending: slow", (0, 1, 0), id="what is missing is missing"),
        pytest.param("by: 10s, pending: slow", (0, 1, 1), id="what is missing is there"),
        pytest.param("by: 1s", (1, 0, 0), id="nothing is called missing"),
    ],
)
def test_what_is_pending_is_told_when_it_holds(
    tmp_path: Path, change: str, counts: tuple[int, int, int]
) -> None:
    played = play(_load(tmp_path, SCENARIO.replace("by: 10s", change)), RULES)
    assert (int(played.failed), len(played.pending), len(played.overtaken)) == counts
    assert replace(played, seed=1).overtaken == []


@pytest.mark.parametrize(
    ("moment", "counts"),
    [
        pytest.param("fence.SENT", [1], id="it has left"),
        pytest.param("fence.SENT host:h2", [], id="none for that one"),
        pytest.param("fence.CONFIRMED host:h1", [1], id="it was answered"),
        pytest.param("fence.FAILED", [], id="it did not fail"),
    ],
)
def test_a_moment_comes_once(tmp_path: Path, moment: str, counts: list[int]) -> None:
    story = play(_load(tmp_path), RULES).story
    come = [has_come(moment, story[:n]) for n in range(len(story) + 1)]
    changes = [n for n in range(len(story)) if come[n] != come[n + 1]]
    assert [1 for _ in changes] == counts


def test_actions_are_terminal_while_none_waits(tmp_path: Path) -> None:
    story = play(_load(tmp_path), RULES).story
    come = [has_come("evacuate_vm.TERMINAL", story[:n]) for n in range(len(story) + 1)]
    assert come[0] and come[-1] and not all(come)  # noqa: PT018 - one claim: yes, no, yes


def test_an_incident_is_told_in_the_story(tmp_path: Path) -> None:
    story = play(_load(tmp_path), RULES).story
    assert any(isinstance(one.what, Incident) for one in story)
