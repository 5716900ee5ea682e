"""Events against the rules that listen to them."""

from collections import deque

import pytest

from correlator.rules.conditions import parse_bound
from correlator.rules.ruleset import ANY_SIGNAL, SymptomSpec
from correlator.symptoms import Matchers, enough, means
from tests.worlds import SECOND_US, event, rule_set

SPEC = SymptomSpec(
    "link.bad",
    signals=("nic.carrier.down",),
    severities=("major", "critical"),
    kinds=("nic",),
    bounds=(parse_bound("change", "< -50%"),),
)
BAD = {"severity": "major", "attrs": {"change": -0.6}}


@pytest.mark.parametrize(
    ("entity", "state", "more", "meaning"),
    [
        pytest.param("nic:1", "raised", BAD, True, id="all that the rule asks for"),
        pytest.param("nic:1", "cleared", {}, False, id="a clear needs no attributes"),
        pytest.param("nic:1", "unknown", BAD, None, id="unknown is neither"),
        pytest.param("vm:1", "raised", BAD, None, id="another kind"),
        pytest.param("vm:1", "cleared", {}, None, id="a clear of another kind"),
        pytest.param("nic:1", "raised", {**BAD, "severity": "minor"}, None, id="too mild"),
        pytest.param("nic:1", "raised", {**BAD, "attrs": {}}, None, id="attribute missing"),
        pytest.param("nic:1", "raised", {**BAD, "attrs": {"change": "low"}}, None, id="no number"),
        pytest.param("nic:1", "raised", {**BAD, "attrs": {"change": -0.5}}, None, id="not less"),
        pytest.param(
            "nic:1", "raised", {**BAD, "attrs": {"change": -(10**400)}}, True, id="a huge number"
        ),
    ],
)
def test_an_event_raises_clears_or_says_nothing(
    entity: str, state: str, more: dict[str, object], *, meaning: bool | None
) -> None:
    assert means(SPEC, event(entity, "nic.carrier.down", state, **more)) is meaning


@pytest.mark.parametrize(
    ("seconds", "holds"),
    [
        pytest.param([0, 1, 2], [False, False, True], id="three in the window"),
        pytest.param([0, 1, 11.5], [False, False, False], id="the first has left the window"),
        pytest.param([0, 5, 10, 15], [False, False, True, True], id="the window slides"),
        pytest.param([0, 0, 0, 0], [False, False, True, True], id="ties count"),
    ],
)
def test_a_counting_symptom_needs_enough_in_its_window(
    seconds: list[float], holds: list[bool]
) -> None:
    spec = SymptomSpec("flaps", changes=3, window_us=10 * SECOND_US)
    window: deque[int] = deque()
    assert [enough(spec, window, round(s * SECOND_US)) for s in seconds] == holds
    assert len(window) <= 3


def test_rules_are_found_by_signal_and_the_rest_goes_to_the_rule_for_all() -> None:
    rest = SymptomSpec("rest", signals=(ANY_SIGNAL,))
    beat = SymptomSpec("silent", absent_signal="beat", absent_us=SECOND_US)
    matchers = Matchers(rule_set((), (SPEC, rest, beat)))
    assert [spec.name for spec in matchers.of("nic.carrier.down")] == ["link.bad"]
    assert [spec.name for spec in matchers.of("new.signal")] == ["rest"]
    assert [spec.name for spec in matchers.absent["beat"]] == ["silent"]
