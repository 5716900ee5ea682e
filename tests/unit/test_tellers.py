"""Who tells of a symptom, since when it stands, and what that says about its cause."""

from dataclasses import replace

import pytest

from correlator.codebook import Codebook
from correlator.engine import Engine
from correlator.rules.paths import parse_path
from correlator.rules.ruleset import CellSpec, RuleSet
from schemas.inputs import Level
from schemas.rules import Cell
from schemas.topology import HealingRule
from tests.worlds import (
    SECOND_US,
    Row,
    at,
    cloud,
    engine,
    event,
    feed,
    incidents,
    roots,
    rule_set,
    run,
    signature,
    topology,
)

EDGES = [
    *cloud(racks=2, hosts=6),
    *((f"collector:r{r}h{h}", "runs_on", f"host:r{r}h{h}") for r in (0, 1) for h in range(6)),
]
MISSES = CellSpec(
    ("host.down",), parse_path("host.collector"), 0.9, 2 * SECOND_US, optional=True, is_told=True
)


def rules(*more: CellSpec) -> RuleSet:
    """Return rules under which a rack may be cut off, with more cells of such a rack."""
    cut = signature("rack-fault", "rack", ("host.down", "host", 0.9), prior=1e-5)
    gone = signature("host-fault", "host", ("host.down", "self", 0.9))
    return rule_set([replace(cut, cells=(*cut.cells, *more)), gone], wait="1s", source_cap=1000.0)


def missed(host: str, *tellers: str) -> list[Row]:
    """Return a host that these collectors miss, each by two of its parts."""
    names = [f"collector:{name}/{part}" for name in tellers for part in ("reach", "tunnels")]
    return [(0.1, event(host, "host.down", source=name)) for name in names]


CUT = [row for h in range(6) for row in missed(f"host:r0h{h}", "r1h0", "r1h1")]


def test_who_is_cut_off_alone_misses_the_others() -> None:
    accused = missed("host:r1h0", "r0h0", "r0h1")
    assert set(roots(run(engine(rules(MISSES), EDGES), [*CUT, *accused]))) == {"rack:r0"}
    assert set(roots(run(engine(rules(), EDGES), [*CUT, *accused]))) == {"rack:r0", "host:r1h0"}


def test_one_word_from_outside_makes_it_the_host_again() -> None:
    accused = missed("host:r1h0", "r0h0", "r1h2")
    later = [(0.2 + row[0], row[1]) for row in accused]
    for rows in ([*CUT, *accused], [*CUT, *accused[:2], *later[2:]]):
        assert set(roots(run(engine(rules(MISSES), EDGES), rows))) == {"rack:r0", "host:r1h0"}


@pytest.mark.parametrize(
    ("tellers", "is_cause"),
    [
        pytest.param(["collector:r0h0", "collector:r0h1"], True, id="all of them stand in it"),
        pytest.param(["collector:r0h0", "collector:r1h2"], False, id="one of them does not"),
        pytest.param(["probe:1"], False, id="nobody known"),
        pytest.param([], False, id="nobody"),
    ],
)
def test_what_all_who_tell_stand_in_is_a_cause(tellers: list[str], *, is_cause: bool) -> None:
    book = Codebook(topology(EDGES), rules(MISSES))
    names = [spec.name for spec in book.rules.signatures]
    rack = names.index("rack-fault"), "rack:r0"
    assert (rack in book.causes("host.down", "host:r1h0", tellers)) == is_cause
    assert book.cell_of(rack, "host.down", "host:r1h0", tellers) == (1 if is_cause else None)
    assert book.cell_of(rack, "host.down", "host:r0h0", tellers) == 0


@pytest.mark.parametrize("more", [{"at": "host", "optional": True}, {"optional": False}])
def test_a_cell_says_where_or_by_whom_and_by_whom_wants_optional(more: dict[str, object]) -> None:
    written = {"see": "s", "by": "collector", "p": 0.5, "within": "1s"} | more
    with pytest.raises(ValueError, match="by"):
        Cell.model_validate(written)


def test_a_healing_rule_needs_one_way_to_know_the_parent() -> None:
    with pytest.raises(ValueError, match="either attr"):
        HealingRule(kind="vm", attr="host", by="collector", relation="hosted_by", to="host")


# ---- since when --------------------------------------------------------------------------------

SOURCE = "collector:r0h0"


def listed(second: float, since: float) -> Row:
    fact = {"entity": "vm:r0h0v0", "signal": "vm.down", "since": at(since)}
    return second, Level.model_validate({"source": SOURCE, "facts": [fact]})


def spoken(second: float, skew: float, part: str = "") -> Row:
    return second, event("app:r0h0v1", "app.down", source=SOURCE + part, at=at(second + skew))


def first_s(folding: Engine) -> float:
    sighting = folding.state.sightings["vm.down", "vm:r0h0v0"]
    return (sighting.first_us - folding.state.live_us) / SECOND_US


@pytest.mark.parametrize(
    ("rows", "age_s"),
    [
        pytest.param([spoken(0, 0), listed(20, 5)], 15, id="as old as the list says"),
        pytest.param([spoken(0, 90), listed(20, 95)], 15, id="on the source's own clock"),
        pytest.param([spoken(0, -90), listed(20, -85)], 15, id="also on one that is behind"),
        pytest.param([spoken(0, 0), listed(120, 5)], 90, id="no older than three lists"),
        pytest.param([spoken(0, 0), listed(20, 25)], 0, id="nothing begins in the future"),
        pytest.param([listed(20, 5)], 0, id="a clock that nobody knows"),
        pytest.param([spoken(0, 90, "/ovs"), listed(20, 95)], 15, id="its parts have one clock"),
    ],
)
def test_what_a_list_tells_first_is_dated_by_it(rows: list[Row], age_s: float) -> None:
    folding = engine()
    feed(folding, rows)
    assert first_s(folding) == pytest.approx(-age_s)


def test_a_list_that_repeats_a_word_dates_nothing_back() -> None:
    folding = engine()
    feed(folding, [spoken(0, 0), (8, event("vm:r0h0v0", "vm.down")), listed(10, 1)])
    assert first_s(folding) == pytest.approx(-2)


def told(second: float, since: float, state: str = "raised", source: str = SOURCE) -> Row:
    stamp = at(since)
    return second, event("vm:r0h0v0", "vm.down", state, source=source, at=stamp)


@pytest.mark.parametrize(
    ("again", "count"),
    [
        pytest.param([told(1, 0)], 1, id="the same word twice"),
        pytest.param([told(1, 1)], 2, id="a word of its own"),
        pytest.param([told(1, 0, source="collector:r0h1")], 2, id="another's word"),
        pytest.param([told(1, 1, "cleared"), told(2, 0)], 1, id="overtaken by its end"),
    ],
)
def test_a_word_on_its_way_twice_is_no_second_sighting(again: list[Row], count: int) -> None:
    folding = engine()
    feed(folding, [told(0.1, 0), *again])
    assert folding.state.sightings["vm.down", "vm:r0h0v0"].count == count


def test_what_a_list_tells_late_came_with_the_list() -> None:
    folding = engine()
    feed(folding, [spoken(0, 0), listed(20, 5)])
    sighting = folding.state.sightings["vm.down", "vm:r0h0v0"]
    assert sighting.came_us - sighting.first_us == 15 * SECOND_US


# ---- guests that are elsewhere -------------------------------------------------------------------


def silent(second: float, *guests: str) -> list[Row]:
    told = [(f"vm:{name}", "vm.down") for name in guests]
    told += [(f"app:{name}", "app.down") for name in guests]
    return [(second, event(entity, signal)) for entity, signal in told]


DEAD: list[Row] = [
    (0.1, event("host:r0h0", "host.down")),
    *silent(0.1, *(f"r0h0v{v}" for v in range(8))),
]
PLACED = cloud(hosts=2, vms=8)
MISPLACED = rule_set(misplaced=0.05, wait_max="8s", settle="60s")


def opened(rows: list[Row]) -> set[str]:
    told = incidents(run(engine(MISPLACED, PLACED), rows))
    return {one.causes[0].entity for one in told if one.state == "open"}


def test_a_guest_that_falls_silent_with_a_host_may_be_on_it() -> None:
    assert opened([*DEAD, *silent(0.3, "r0h1v0")]) == {"host:r0h0"}
    assert opened(silent(0.3, "r0h1v0")) == {"vm:r0h1v0"}


def test_a_guest_that_falls_silent_at_another_time_has_failed_itself() -> None:
    assert opened([*DEAD, *silent(45.0, "r0h1v0")]) == {"host:r0h0", "vm:r0h1v0"}
