"""Replay: ticks where the recording brought none, and cases that know nothing of each other."""

import json
from pathlib import Path

import pytest

from correlator import replay as replay_module
from correlator.engine import LOG_US_MAX, Stamped
from correlator.recording import open_recording
from correlator.replay import DRAIN_US, fold, replay
from correlator.topology import build
from schemas.inputs import Tick
from schemas.outputs import DeadLetter
from tests.worlds import (
    RULES,
    SCHEMA,
    SECOND_US,
    START_US,
    Row,
    cloud,
    engine,
    event,
    incidents,
    log,
    roots,
    rule_set,
)

APP = "app:r0h0v0"


def ignored(_: DeadLetter) -> None:
    """Take a dead letter that a test does not ask about."""


def test_ticks_are_made_at_each_deadline_and_not_between() -> None:
    folding = engine()
    said_at = [record.log_us for record, _ in fold(folding, log([(0, event(APP, "app.down"))]))]
    first = said_at[0] - START_US
    assert first in (250_000, 500_000, SECOND_US, 1_500_000, 2 * SECOND_US)


def test_a_recording_with_ticks_of_its_own_gets_no_others() -> None:
    rows: list[Row] = [(0, event(APP, "app.down")), (1, Tick())]
    folding = engine(ticks="recorded")
    told = list(fold(folding, log(rows)))
    assert all(record.offset in (0, 1) and record.index == 0 for record, _ in told)
    assert folding.state.live_us == SECOND_US


def test_what_comes_at_the_instant_of_a_deadline_comes_before_it() -> None:
    """Ties in time decide nothing: a clear at the very moment of a close is heard first."""
    rows: list[Row] = [
        (0, event("vm:r0h0v0", "vm.down")),
        (0.25, event("app:r0h0v0", "app.down")),
        (0.25, event("app:r0h0v1", "app.down")),
        (0.25, event("vm:r0h0v1", "vm.down")),
    ]
    assert set(roots([o for _, o in fold(engine(), log(rows))])) == {"host:r0h0"}


def test_time_goes_on_after_the_last_input_for_what_waits() -> None:
    folding = engine()
    list(fold(folding, log([(0, event(APP, "app.down"))])))
    assert START_US < folding.state.live_us <= START_US + DRAIN_US
    assert folding.next_deadline_us() is None


def test_a_stamp_at_the_end_of_time_ends_the_replay() -> None:
    folding = engine()
    late = Stamped(0, 0, 10**19, event(APP, "app.down"))
    assert list(fold(folding, [late, Stamped(1, 0, 10**19, Tick())])) == []
    assert folding.state.log_us == LOG_US_MAX


def test_ticks_between_two_inputs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_module, "TICKS_MAX", 1)
    folding = engine()
    list(fold(folding, log([(0, event(APP, "app.down")), (1000, Tick())])))
    assert (folding.state.offset, folding.state.index) == (1, 0)


def folder(path: Path, *rows: dict[str, object]) -> Path:
    path.joinpath("events.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return path


def row(second: float, entity: str, signal: str, case: object = None) -> dict[str, object]:
    kind, _, name = entity.partition(":")
    attrs = {} if case is None else {"attrs": {"case": case}}
    given = {"ts": 1_795_428_000 + second, "entity": {"kind": kind, "id": name}}
    return {**given, "type": signal, **attrs}


def test_cases_are_replayed_each_on_its_own_in_its_own_domain(tmp_path: Path) -> None:
    graph, _ = build([], cloud(), SCHEMA)
    before = graph.document()
    path = folder(
        tmp_path,
        row(0, "vm:r0h0v0", "vm.down", 1),
        row(0, "vm:r0h0v1", "vm.down", 2),
        row(0.1, "app:r0h0v0", "app.down", 1),
        row(0.1, "app:r0h0v1", "app.down", 2),
        row(0.1, "app:new", "app.down", 2),
    )
    dead: list[DeadLetter] = []
    told = list(replay(open_recording(path), graph, RULES, dead.append))
    named = {(case, one.causes[0].entity) for case, _, one in told if one.type == "incident"}
    assert named == {("1", "vm:r0h0v0"), ("2", "vm:r0h0v1"), ("2", "app:new")}
    domains = {one.domain for one in incidents([output for _, _, output in told])}
    assert domains == {f"{tmp_path.name}/1", f"{tmp_path.name}/2"}
    assert graph.document() == before


def test_order_and_ties_in_a_minute_grained_recording_decide_nothing(tmp_path: Path) -> None:
    rules = rule_set(gather="0s", wait="2s")
    rows = [row(0, "app:r0h0v0", "app.down"), row(0, "vm:r0h0v0", "vm.down")]
    found = []
    for name, given in (("a", rows), ("b", rows[::-1])):
        tmp_path.joinpath(name).mkdir()
        recording = open_recording(folder(tmp_path / name, *given))
        told = replay(recording, build([], cloud(), SCHEMA)[0], rules, ignored)
        found.append(roots([output for _, _, output in told]))
    assert found[0] == found[1] == ["vm:r0h0v0"]
