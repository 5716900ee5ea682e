"""What is said of a host is doubted: by itself, by its neighbours, and by whoever else may lie."""

import pytest

from correlator import guards
from correlator.doubts import shared_cause, silent_neighbour, speaks_now
from correlator.engine import Engine, Stamped
from correlator.evidence import Accusation, is_silent
from schemas.inputs import Pulse
from schemas.outputs import Action, Output
from schemas.rules import Limits
from tests.unit.test_guards import HOST, NEIGHBOUR, codes, dead, fenced, said
from tests.worlds import START_US, Row, at, engine, event, feed


def beat(second: float, seq: int) -> Row:
    return second, Pulse(collector="collector:r0h0", seq=seq, boot_id="b1", host=HOST)


HEARD: list[Row] = [*dead(), *(beat(0.5 * n, n) for n in range(1, 12))]


def test_a_host_that_is_heard_is_not_fenced_and_one_that_falls_silent_is() -> None:
    outputs = said(HEARD)
    assert fenced(outputs) == []
    assert "still_heard" in codes(outputs)
    assert fenced(said(HEARD[:-6], end=7.0)) == [HOST]


def test_without_the_guard_a_host_that_is_heard_is_fenced(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tuple(one for one in guards.DESTRUCTIVE_GUARDS if one is not speaks_now)
    monkeypatch.setattr(guards, "DESTRUCTIVE_GUARDS", kept)
    assert fenced(said(HEARD)) == [HOST]


def test_all_doubts_are_asked() -> None:
    assert {speaks_now, shared_cause, silent_neighbour} <= set(guards.DESTRUCTIVE_GUARDS)


def told(source: str, *planes: str, second: int = 0) -> Accusation:
    return Accusation(second * 1_000_000, source, planes)


@pytest.mark.parametrize(
    ("told_of", "expected"),
    [
        pytest.param([], False, id="nobody"),
        pytest.param([told("a", "mgmt"), told("b", "mgmt")], False, id="one plane"),
        pytest.param([told("a", "mgmt"), told("b", "tenant")], False, id="a plane each"),
        pytest.param([told("a", "mgmt", "tenant"), told("b")], False, id="all by one"),
        pytest.param(
            [told("a", "mgmt"), told("b", "mgmt", "tenant", second=3)], False, id="later by one"
        ),
        pytest.param(
            [told("a", "mgmt", "tenant"), told("b", "mgmt", second=3)], False, id="first by one"
        ),
        pytest.param([told("a", "mgmt", "tenant"), told("b", "mgmt")], False, id="one by one"),
        pytest.param([told("a", "mgmt", "tenant"), told("b", "mgmt", "storage")], True, id="both"),
        pytest.param(
            [
                *(told(one, "mgmt") for one in "ab"),
                *(told(one, "tenant", second=3) for one in "cd"),
            ],
            True,
            id="each by two",
        ),
        pytest.param([told("a", "mgmt"), told("b")], False, id="a fact that names no plane"),
    ],
)
def test_silence_is_two_planes_whichever_one_witness_is_wrong(
    told_of: list[Accusation], *, expected: bool
) -> None:
    assert is_silent(told_of, Limits()) is expected


# ---- what one life of a symptom leaves to the next ------------------------------------------

DOWN = ("host.down", HOST)


def down(second: float, source: str, state: str = "raised", stamp: float | None = None) -> Row:
    stamp = second if stamp is None else stamp
    attrs = {"plane": "mgmt"}
    given = event(HOST, "host.down", state, source=source, at=at(stamp), attrs=attrs)
    return second, given


def folded(rows: list[Row]) -> Engine:
    folding = engine(ticks="recorded")
    feed(folding, rows)
    return folding


def test_who_saw_the_last_life_of_a_symptom_bears_no_witness_to_this_one() -> None:
    rows = [down(0, "peer:1"), down(0.1, "peer:2"), down(1, "peer:1", "cleared"), down(2, "peer:3")]
    sighting = folded(rows).state.sightings[DOWN]
    assert sighting.cleared_us is None
    assert (list(sighting.witnesses), sighting.planes) == (["peer:3"], {"mgmt": ["peer:3"]})


def test_each_source_is_held_to_its_own_order() -> None:
    rows = [
        down(0, "peer:1"),
        down(0.1, "peer:2"),
        down(1, "peer:2", "cleared", 1.0),
        down(1.1, "peer:2", stamp=0.9),
    ]
    assert folded(rows).state.sightings[DOWN].cleared_us is not None


def test_a_clock_that_was_set_back_hides_no_clear() -> None:
    rows = [down(0, "peer:1", stamp=90), down(20, "peer:1"), down(25, "peer:1", "cleared")]
    assert folded(rows).state.sightings[DOWN].cleared_us is not None


def test_what_was_spooled_before_a_clear_brings_nothing_back() -> None:
    folding = folded([down(0, "peer:1"), down(30, "peer:1", "cleared")])
    late = Stamped(2, 0, START_US + 31_000_000, down(31, "peer:1", stamp=10)[1], spooled=True)
    folding.step(late)
    assert folding.state.sightings[DOWN].cleared_us is not None


# ---- what is shared --------------------------------------------------------------------------

ALSO: list[Row] = [(0.0, event(NEIGHBOUR, "host.down", source="peer:5"))]


def test_a_neighbour_without_a_cause_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Row] = [*dead(), *ALSO]
    at_once: dict[str, object] = {"hold": "0s"}
    with_doubt = said(rows, more=at_once)
    assert "neighbour_unexplained" in codes(with_doubt)
    kept = tuple(one for one in guards.DESTRUCTIVE_GUARDS if one is not silent_neighbour)
    monkeypatch.setattr(guards, "DESTRUCTIVE_GUARDS", kept)
    assert fenced_at(said(rows, more=at_once)) < fenced_at(with_doubt)


def fenced_at(outputs: list[Output]) -> float:
    """Return the place of the first fence among what was said; the end where there is none."""
    places = [n for n, one in enumerate(outputs) if isinstance(one, Action) and one.verb == "fence"]
    return places[0] if places else len(outputs)
