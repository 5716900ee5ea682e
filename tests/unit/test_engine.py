"""One input at a time: what each kind of input does to the state, and what is said of it."""

import json

import pytest

from correlator import intake, state
from correlator.engine import GAP_US, LOG_US_MAX, Engine, Stamped
from correlator.rules.ruleset import SymptomSpec
from correlator.state import restore
from schemas.inputs import Level, Pulse, Tick
from schemas.outputs import Evidence
from tests.worlds import (
    RULES,
    SCHEMA,
    SECOND_US,
    SIGNATURES,
    START_US,
    SYMPTOMS,
    Row,
    at,
    engine,
    event,
    feed,
    incidents,
    reasons,
    roots,
    rule_set,
    run,
    signature,
)

APP = "app:r0h0v0"
VM = "vm:r0h0v0"
DOWN = ("app.down", APP)


def level(*facts: tuple[str, str], **more: object) -> Level:
    given = [{"entity": entity, "signal": signal, **more} for signal, entity in facts]
    return Level.model_validate({"source": "collector:1/libvirt", "facts": given})


def pulse(seq: int, boot: str | None = "boot-1", **more: object) -> Pulse:
    given = {"collector": "collector:c", "seq": seq, "boot_id": boot, "host": "host:r0h0"}
    return Pulse.model_validate({**given, **more})


# ---- events --------------------------------------------------------------------------------


def test_a_symptom_that_clears_closes_its_incident_when_things_have_settled() -> None:
    told = incidents(
        run(engine(), [(0, event(APP, "app.down")), (5, event(APP, "app.down", "cleared"))])
    )
    assert [one.state for one in told] == ["open", "open", "cleared"]
    assert [one.update for one in told] == [0, 1, 2]
    assert told[-1].updated_at == "2026-11-23T10:00:15.000000Z"


def test_a_symptom_that_is_not_seen_again_goes_stale() -> None:
    folding = engine()
    told = incidents(run(folding, [(0, event(APP, "app.down"))]))
    assert told[-1].updated_at == "2026-11-23T10:10:00.000000Z"
    assert (folding.state.sightings, folding.state.incidents) == ({}, {})


def test_after_a_large_look_the_next_one_waits_and_sees_to_all_that_has_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("correlator.incidents.RESTS_FROM", 0)
    monkeypatch.setattr("correlator.incidents.REST_US", SECOND_US)
    others = [f"app:r0h{host}v0" for host in range(1, 4)]
    rows: list[Row] = [(0, event(APP, "app.down"))]
    rows += [(0.5 + 0.1 * number, event(one, "app.down")) for number, one in enumerate(others)]
    told = incidents(run(engine(), rows))
    opened = {one.causes[0].entity: one.opened_at[17:23] for one in told}
    # The look at 0.25 s weighs three causes, so nothing is looked at for 3 s; then all are to open.
    assert opened == dict.fromkeys([APP, *others], "03.250")


def test_what_nothing_explains_is_forgotten_after_it_has_cleared_or_gone_stale() -> None:
    folding = engine()
    run(folding, [(0, event(VM, "app.down")), (1, event("x:1", "vm.down", "cleared"))])
    assert folding.state.sightings == {}


def test_an_unmatched_event_and_an_unknown_entity_are_counted() -> None:
    folding = engine()
    feed(folding, [(0, event(APP, "no.rule")), (1, event("app:new", "app.down"))])
    assert folding.state.counters == {"unmatched": 1, "unknown_entities": 1}
    assert "app:new" in folding.state.topology


def test_a_symptom_that_comes_back_soon_is_the_same_incident() -> None:
    rows: list[Row] = [
        (0, event(APP, "app.down")),
        (5, event(APP, "app.down", "cleared")),
        (6, event(APP, "app.down")),
    ]
    assert len({one.incident_id for one in incidents(run(engine(), rows))}) == 1


@pytest.mark.parametrize("gone", [5.0, 21.0, 100.0])
def test_a_symptom_that_comes_back_after_all_had_ended_is_another(gone: float) -> None:
    rows: list[Row] = [
        (0, event(APP, "app.down")),
        (5, event(APP, "app.down", "cleared")),
        (5 + gone, event(APP, "app.down", source="other")),
    ]
    told = incidents(run(engine(), rows))
    assert len({one.incident_id for one in told}) == 2


def test_a_symptom_that_comes_back_while_others_stand_belongs_to_them() -> None:
    rows: list[Row] = [
        (0, event(VM, "vm.down")),
        (0, event(APP, "app.down")),
        (5, event(APP, "app.down", "cleared")),
        (12, event(APP, "app.down")),
    ]
    assert set(roots(run(engine(), rows))) == {VM}


def test_a_flapping_symptom_needs_its_changes_and_ends_by_quiet() -> None:
    rows: list[Row] = []
    for n in range(4):
        state = ("raised", "cleared")[n % 2]
        rows.append((n, event("nic:r0h0/a", "nic.down", state)))
    folding = engine(rules=rule_set(symptoms=[s for s in SYMPTOMS if s.name != "nic.down"]))
    told = incidents(run(folding, rows))
    assert told[0].causes[0].signature == "nic-fault"
    assert told[-1].updated_at == "2026-11-23T10:01:13.000000Z"
    assert folding.state.windows == {}


def test_a_flapping_symptom_that_flaps_on_stays() -> None:
    rows: list[Row] = [(10 * n, event("nic:r0h0/a", "nic.down")) for n in range(20)]
    symptoms = [
        SymptomSpec(
            "nic.down",
            ("nic.down",),
            changes=2,
            window_us=30 * SECOND_US,
            quiet_us=15 * SECOND_US,
            spurious=1e-6,
        )
    ]
    told = incidents(run(engine(rules=rule_set(symptoms=symptoms)), rows))
    assert told[-1].updated_at == "2026-11-23T10:03:35.000000Z"


def test_a_counting_symptom_without_quiet_clears_by_its_clear() -> None:
    twice = SymptomSpec(
        "nic.down", ("nic.down",), changes=2, window_us=9 * SECOND_US, spurious=1e-6
    )
    rows: list[Row] = [
        (0, event("nic:r0h0/a", "nic.down")),
        (1, event("nic:r0h0/a", "nic.down")),
        (2, event("nic:r0h0/a", "nic.down", "cleared")),
    ]
    told = incidents(run(engine(rules=rule_set(symptoms=[twice])), rows))
    assert told[-1].updated_at == "2026-11-23T10:00:12.000000Z"


def test_ids_are_remembered_for_two_generations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "EVENT_IDS_MAX", 2)
    folding = engine()
    for n, known in enumerate(["a", "b", "a", "c", "b", "d", "a"]):
        folding.step(Stamped(n, 0, START_US, event(APP, "app.down", event_id=known)))
    assert folding.state.counters["duplicates"] == 2
    assert folding.state.sightings[DOWN].count == 5


# ---- order of one source -------------------------------------------------------------------


def state_after(*rows: tuple[float, float, str]) -> bool:
    """Return whether the symptom stands after (arrival, source's clock, state) rows."""
    folding = engine()
    arrivals: list[Row] = [
        (second, event(APP, "app.down", state, at=at(clock), source="collector:1"))
        for second, clock, state in rows
    ]
    feed(folding, arrivals)
    sighting = folding.state.sightings.get(DOWN)
    return sighting is not None and sighting.cleared_us is None


@pytest.mark.parametrize(
    ("rows", "stands"),
    [
        pytest.param([(1, 1, "raised"), (2, 2, "cleared")], False, id="in order"),
        pytest.param([(1, 2, "cleared"), (2, 1, "raised")], False, id="the clear came first"),
        pytest.param(
            [(1, 1, "raised"), (2, 3, "raised"), (3, 2, "cleared")],
            True,
            id="a clear from between two raises",
        ),
        pytest.param(
            [(1, 1, "raised"), (2, 3, "cleared"), (3, 2, "raised")],
            False,
            id="a raise from before the clear",
        ),
        pytest.param(
            [(1, 2, "cleared"), (2, 3, "raised"), (3, 1, "raised")],
            True,
            id="a raise after the clear counts",
        ),
        pytest.param(
            [(1, 2, "cleared"), (2, 4, "cleared"), (3, 3, "raised")],
            False,
            id="the last of two clears that came first",
        ),
        pytest.param(
            [(1, 1, "raised"), (2, 2, "cleared"), (3, 4, "cleared"), (4, 3, "raised")],
            False,
            id="a second clear dates the end anew",
        ),
    ],
)
def test_the_clock_of_a_source_orders_what_it_says(
    rows: list[tuple[float, float, str]], *, stands: bool
) -> None:
    assert state_after(*rows) is stands


def test_clocks_of_two_sources_are_not_compared() -> None:
    rows: list[Row] = [
        (1, event(APP, "app.down", "cleared", at=at(100), source="a")),
        (2, event(APP, "app.down", at=at(2), source="b")),
        (3, event(APP, "app.down", "cleared", at=at(1), source="c")),
    ]
    folding = engine()
    feed(folding, rows[:2])
    assert folding.state.sightings[DOWN].cleared_us is None
    feed(folding, rows[2:], start=2)
    assert folding.state.sightings[DOWN].cleared_us is not None


def test_a_clear_with_no_raise_is_forgotten_when_the_raise_would_be_too_late() -> None:
    folding = engine()
    rows: list[Row] = [
        (0, event(APP, "app.down", "cleared", at=at(0), source="a")),
        (1, event(APP, "app.down", "cleared", at=at(1), source="a")),
        (1, event("app:r0h0v1", "app.down", "cleared", at=at(1), source="a")),
        (1.5, event("app:r0h0v1", "app.down", at=at(1.5), source="a")),
        (2.5, event("x:1", "x")),
    ]
    run(folding, rows)
    assert folding.state.overtaking == {}


# ---- levels, pulses, absence ---------------------------------------------------------------


def test_an_equal_fact_refreshes_and_a_missing_one_clears() -> None:
    folding = engine()
    feed(folding, [(0, level(DOWN, ("vm.down", VM))), (1, level(DOWN, ("vm.down", VM)))])
    sighting = folding.state.sightings[DOWN]
    assert (sighting.count, sighting.last_us - sighting.first_us) == (1, SECOND_US)
    feed(folding, [(2, level(("vm.down", VM)))], start=2)
    assert sighting.cleared_us == START_US + 2 * SECOND_US
    assert folding.state.sightings["vm.down", VM].cleared_us is None


def test_a_fact_that_was_cleared_by_an_event_is_raised_again_by_the_level() -> None:
    folding = engine()
    rows: list[Row] = [(0, level(DOWN)), (1, event(APP, "app.down", "cleared")), (2, level(DOWN))]
    feed(folding, rows)
    assert folding.state.sightings[DOWN].cleared_us is None


def test_facts_beyond_the_bound_are_counted_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "LEVEL_FACTS_MAX", 1)
    folding = engine()
    feed(folding, [(0, level(DOWN, ("vm.down", VM)))])
    assert list(folding.state.sightings) == [DOWN]
    assert folding.state.counters["level_facts_left"] == 1


def test_a_new_boot_is_a_new_generation_and_a_repeat_is_none() -> None:
    folding = engine()
    rows: list[Row] = [
        (0, pulse(5)),
        (1, pulse(5)),
        (2, pulse(0, "boot-2")),
        (3, pulse(1, None)),
        (4, pulse(2, "boot-2")),
    ]
    assert reasons(feed(folding, rows)) == ["boot_observed"]
    assert folding.state.generations == {"host:r0h0": 1}
    assert folding.state.counters["duplicates"] == 1


def test_a_collector_that_stops_beating_is_silent_and_its_next_beat_ends_that() -> None:
    folding = engine()
    told = incidents(run(folding, [(0, pulse(1)), (10, pulse(2)), (10.5, event("x:1", "x"))]))
    assert {one.causes[0].entity for one in told} == {"collector:c"}
    assert told[0].opened_at == "2026-11-23T10:00:03.250000Z"


def test_rules_that_do_not_ask_for_silent_collectors_get_none() -> None:
    quiet = rule_set(symptoms=[s for s in SYMPTOMS if s.name != "collector.lost"])
    folding = engine(rules=quiet)
    feed(folding, [(0, pulse(1))])
    assert folding.state.alive == {}


BEAT = event(APP, "app.beat")


def test_a_signal_that_stops_coming_raises_its_symptom_once() -> None:
    rows: list[Row] = [(n, BEAT) for n in range(5)]
    told = incidents(run(engine(), rows))
    assert (told[0].opened_at, told[0].causes[0].entity) == ("2026-11-23T10:00:09.000000Z", APP)


def test_an_absence_is_excused_by_what_its_rule_names() -> None:
    folding = engine()
    told = run(folding, [(0, BEAT), (1, event(VM, "vm.down"))])
    assert roots(told) == [VM]
    assert folding.state.counters["excused"] == 1


def test_no_absence_fires_in_a_stream_gap() -> None:
    folding = engine(ticks="recorded")
    rows: list[Row] = [(0, BEAT), (60, Tick()), (61, Tick()), (61.5, Tick())]
    feed(folding, rows)
    assert ("app.silent", APP) not in folding.state.sightings
    feed(folding, [(61.9, BEAT), (63, Tick())], start=4)
    assert ("app.silent", APP) not in folding.state.sightings


# ---- time ----------------------------------------------------------------------------------


def test_live_time_does_not_jump_with_a_gap_and_many_gaps_are_told() -> None:
    folding = engine(ticks="recorded")
    told = feed(folding, [(60 * n, Tick()) for n in range(6)])
    assert folding.state.live_us == 5 * GAP_US
    assert reasons(told).count("stream_gap") == 5
    assert reasons(told).count("stream_gaps_many") == 2


def test_what_is_told_of_a_live_log_bears_the_stamps_of_the_log() -> None:
    folding = engine(ticks="recorded")
    ticks: list[Row] = [(n / 4, Tick()) for n in range(1, 13)]
    before = feed(folding, [(0, Tick()), (0.2, event(APP, "app.down")), *ticks])
    opened = incidents(before)[0]
    assert opened.evidence[0].first_at == "2026-11-23T10:00:00.200000Z"
    assert (opened.onset_at, opened.opened_at) == (
        "2026-11-23T10:00:00.200000Z",
        "2026-11-23T10:00:02.250000Z",
    )
    assert opened.updated_at == opened.opened_at
    # A gap of a minute, for which live time stands still, and the same from a snapshot.
    restored = Engine(restore(json.loads(folding.state.text()), SCHEMA), RULES)
    later: list[Row] = [
        (61, event(VM, "vm.down")),
        *((61 + n / 4, Tick()) for n in range(1, 9)),
        (63.5, event(APP, "app.down", "cleared")),
        (63.5, event(VM, "vm.down", "cleared")),
        *((64.0 + n, Tick()) for n in range(40)),
    ]
    (first, last) = (feed(one, later, len(ticks) + 2) for one in (folding, restored))
    assert first == last
    told = [one for one in incidents(first) if one.incident_id == opened.incident_id]
    assert told
    assert {one.opened_at for one in told} == {opened.opened_at}
    assert told[-1].updated_at == "2026-11-23T10:01:14.000000Z"


def test_time_that_goes_back_is_counted_and_stands_still() -> None:
    folding = engine()
    feed(folding, [(10, Tick()), (5, event(APP, "app.down")), (10, Tick())])
    assert folding.state.counters["time_went_back"] == 1
    assert folding.state.sightings[DOWN].first_us == START_US + 10 * SECOND_US


def test_a_repeated_offset_is_dropped() -> None:
    folding = engine()
    first = Stamped(3, 0, START_US, event(APP, "app.down"))
    folding.step(first)
    assert folding.step(first) == []
    assert folding.state.counters["repeated_offsets"] == 1
    assert folding.state.sightings[DOWN].count == 1


@pytest.mark.parametrize("log_us", [10**30, -(10**30), 0])
def test_a_stamp_out_of_this_world_is_survived(log_us: int) -> None:
    folding = engine(ticks="recorded")
    folding.step(Stamped(0, 0, log_us, event("nic:r0h0/a", "nic.down")))
    folding.step(Stamped(1, 0, log_us, Tick()))
    assert folding.state.log_us <= LOG_US_MAX


# ---- incidents -----------------------------------------------------------------------------


def test_an_incident_is_revised_when_the_cause_becomes_clear_and_never_doubled() -> None:
    rows: list[Row] = [
        (0, event(APP, "app.down")),
        (2.1, event(VM, "vm.down")),
        (2.2, event("vm:r0h0v1", "vm.down")),
        (2.3, event("host:r0h0", "host.down")),
    ]
    told = incidents(run(engine(rules=rule_set(wait_max="1s")), rows))
    assert len({one.incident_id for one in told}) == 1
    assert told[-1].causes[0].entity == "host:r0h0"
    assert told[-1].revises[0] == APP


def test_incidents_that_turn_out_to_be_one_are_merged() -> None:
    rows: list[Row] = [
        (0, event("host:r0h0", "host.down")),
        (0, event("host:r0h1", "host.down")),
    ]
    slow = [
        signature("rack-fault", "rack", ("host.down", "host", 0.9), ("vm.down", "host.vm", 0.99))
    ]
    rules = rule_set(
        [*slow, *[s for s in SIGNATURES if s.name not in ("rack-fault", "pool-fault")]],
        wait_max="0s",
    )
    vms: list[Row] = [(1.5, event(f"vm:r0h{h}v{v}", "vm.down")) for h in (0, 1) for v in (0, 1)]
    told = run(engine(rules=rules), [*rows, *vms])
    closed = [one for one in incidents(told) if one.state == "cleared"]
    assert len(closed) == len({one.incident_id for one in incidents(told)})


def test_an_old_symptom_is_left_to_the_fault_before() -> None:
    rows: list[Row] = [
        (0, event("host:r0h0", "host.down")),
        *((60, event(f"vm:r0h0v{v}", "vm.down")) for v in (0, 1)),
        *((60, event(f"app:r0h0v{v}", "app.down")) for v in (0, 1)),
    ]
    only = [one for one in SIGNATURES if one.name == "host-fault"]
    hosts = rule_set(only, gain_first=-50.0)
    told = incidents(run(engine(rules=hosts), rows))
    assert len({one.incident_id for one in told}) == 2
    holders = {one.incident_id for one in told for seen in one.evidence if _is_old(seen)}
    assert holders == {told[0].incident_id}


def _is_old(seen: Evidence) -> bool:
    return seen.symptom == "host.down" and seen.role in ("for", "late")


def test_a_component_of_nothing_known_is_looked_at_and_left() -> None:
    folding = engine(rules=rule_set([]))
    assert run(folding, [(0, event("nic:r0h0/a", "nic.down"))]) == []
    assert folding.next_deadline_us() is None


def test_unnamed_domains_are_told_as_such() -> None:
    folding = engine(ticks="recorded")
    folding.state.domain = "x" * 600
    told = feed(folding, [(0, Tick()), (9, Tick())])
    assert told[0].model_dump()["entity"] == "domain:unnamed"
