"""What owners and sites say, seen from the actions that leave: notices, protected hosts, places."""

from dataclasses import replace
from typing import Any

import pytest

from correlator.engine import Engine
from schemas.inputs import Command, Tick
from schemas.outputs import Action, Decision, Output
from schemas.rules import Policy
from tests.unit.test_guards import HOST, confirmed, dead
from tests.unit.test_settings import settings
from tests.worlds import SYMPTOMS, Row, cloud, engine, feed, rule_set

VM, NEIGHBOUR = "vm:r0h0v0", "vm:r0h0v1"
STEPS: list[dict[str, Any]] = [
    {"fence": {}},
    {"evacuate_vm": {"target": "$root.vm", "needs": "fence.confirmed"}},
]
VNFM = "kafka:vnfm"


def site(*documents: dict[str, Any], racks: int = 2) -> Engine:
    """Return an engine for small racks of two hosts, under the settings of a site."""
    policy = {"kind": "policy", "name": "p", "cause": "*", "confidence": ">= 0.9", "do": STEPS}
    rules = rule_set(policies=[Policy.model_validate(policy)], symptoms=SYMPTOMS, source_cap=90.0)
    given = replace(rules, settings=tuple(settings(*documents)))
    return engine(given, cloud(racks=racks), ticks="recorded")


def ticks(start: float, end: float) -> list[Row]:
    return [(n / 10, Tick()) for n in range(round(start * 10) + 1, round(end * 10) + 1)]


def told(folding: Engine, rows: list[Row]) -> list[Output]:
    return feed(folding, sorted(rows, key=lambda row: row[0]), folding.state.offset + 1)


def of(outputs: list[Output], verb: str) -> list[Action]:
    return [one for one in outputs if isinstance(one, Action) and one.verb == verb]


def test_a_notice_leaves_at_once_and_says_until_when_a_word_is_waited_for() -> None:
    folding = site({"entities": VM, "vnfm": {"notify": VNFM, "ack": True, "hold": "5s"}})
    first = told(folding, [*dead(), *ticks(0, 1)])
    (notice,) = of(first, "notify")
    assert notice.target == VM
    assert notice.vnfm is not None
    assert (notice.vnfm.notify, notice.vnfm.ack_required) == (VNFM, True)
    assert (notice.not_before[-10:], notice.vnfm.ack_deadline[-10:]) == ("00.300000Z", "05.300000Z")
    then = told(folding, [(1.1, confirmed(of(first, "fence")[0]))])
    assert [one.target for one in of(then, "evacuate_vm")] == [NEIGHBOUR]
    last = told(folding, [(1.2, confirmed(notice))])
    assert [one.target for one in of(last, "evacuate_vm")] == [VM]


def test_a_notice_that_arrived_is_no_word_of_an_owner_who_gives_none() -> None:
    folding = site({"entities": VM, "vnfm": {"notify": VNFM, "hold": "5s"}})
    first = told(folding, [*dead(), *ticks(0, 1)])
    answers: list[Row] = [(1.1, confirmed(one)) for one in first if isinstance(one, Action)]
    then = told(folding, [*answers, *ticks(1.2, 4.5)])
    assert [one.target for one in of(then, "evacuate_vm")] == [NEIGHBOUR]
    assert [one.target for one in of(told(folding, ticks(4.5, 6)), "evacuate_vm")] == [VM]


@pytest.mark.parametrize(
    ("documents", "is_kept"),
    [
        pytest.param([{"entities": HOST, "carries": ["broker"]}], True, id="a broker"),
        pytest.param([{"entities": VM, "carries": ["correlator"]}], True, id="in one of its VMs"),
        pytest.param([{"entities": HOST, "carries": ["actuator"]}], True, id="the last actuator"),
        pytest.param([{"entities": "host:*", "carries": ["actuator"]}], False, id="one of several"),
        pytest.param([{"entities": "host:r1h0", "carries": ["broker"]}], False, id="elsewhere"),
    ],
)
def test_a_host_that_carries_us_is_fenced_when_a_person_agrees(
    documents: list[dict[str, Any]], *, is_kept: bool
) -> None:
    folding = site(*documents)
    first = told(folding, [*dead(), *ticks(0, 3)])
    assert (of(first, "fence") == []) == is_kept
    (incident,) = folding.state.incidents
    word = Command(command="approve", target=incident, by="operator:1")
    assert len(of(told(folding, [(3.1, word)]), "fence")) == is_kept


def test_an_action_names_where_it_brings_a_workload() -> None:
    folding = site({"entities": "vm:r0h0*", "anti_affinity": "pair"})
    first = told(folding, [*dead(), *ticks(0, 1)])
    sent = of(told(folding, [(1.1, confirmed(of(first, "fence")[0]))]), "evacuate_vm")
    places = [one.placement for one in sent if one.placement]
    assert len({one.destination for one in places}) == len(sent) == len("ab")
    assert all(HOST in one.exclude and one.group == ["pair"] for one in places)


def test_who_has_nowhere_to_go_is_told_of_and_others_go_on() -> None:
    folding = site({"entities": VM, "exclude": "host:*"})
    first = told(folding, [*dead(), *ticks(0, 1)])
    then = told(folding, [(1.1, confirmed(of(first, "fence")[0])), *ticks(1.2, 20)])
    assert [one.target for one in of(then, "evacuate_vm")] == [NEIGHBOUR]
    assert [one.target for one in of(then, "page")] == [VM]
    found = [one for one in then if isinstance(one, Decision) and one.reason == "no_destination"]
    assert "excluded" in found[0].text


def test_no_place_is_given_away_twice() -> None:
    rooms = {"capacity": {"vms": 3}}
    folding = site({"entities": "host:*", **rooms}, racks=1)
    first = told(folding, [*dead(), *ticks(0, 1)])
    then = told(folding, [(1.1, confirmed(of(first, "fence")[0])), *ticks(1.2, 9)])
    assert [one.target for one in of(then, "evacuate_vm")] == [VM]
    assert [one.target for one in of(then, "page")] == [NEIGHBOUR]
