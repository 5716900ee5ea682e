"""What a consumer owes an action: once, in time, for the owner that counts, or a reason."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from correlator.signatures import Refused
from firstfault.consumer.duties import (
    Known,
    Now,
    Outcome,
    Self,
    Turn,
    decide,
)
from firstfault.consumer.gate import Believed, Gate, Trust
from firstfault.consumer.ledger import open_ledger
from firstfault.log import LogError
from schemas.base import canonical, document_of, from_microseconds
from schemas.inputs import Frame, Result
from schemas.keys import KeySet
from schemas.outputs import Action
from tests.signed import ACTUATOR, DOMAIN, OPERATOR, WORKER, key, key_set, private, signer

NOW_US = 1_795_000_000_000_000
SECOND_US = 1_000_000
ME = Self(ACTUATOR, frozenset({"host:mgmt-1"}))


def action(**more: Any) -> Action:  # noqa: ANN401 - fields of an action
    """Return an action that may be run now."""
    given = {
        "action_id": "a1",
        "idempotency_key": "k1",
        "verb": "fence",
        "target": "host:h3",
        "target_generation": 1,
        "domain": DOMAIN,
        "epoch": 7,
        "fence_token": 3,
        "incident_id": "i1",
        "policy": "p",
        "step": 1,
        "mode": "enforce",
        "max_runtime_s": 30.0,
        "expires_at": from_microseconds(NOW_US + 30 * SECOND_US),
        "reply_to": {"key": DOMAIN},
    }
    return Action.model_validate({**given, **more})


def now(us: int = NOW_US, stamp_us: int = NOW_US, skew_us: int | None = 0) -> Now:
    return Now(us, stamp_us, skew_us)


@dataclass(frozen=True)
class Row:
    why: str
    reason: str
    change: dict[str, Any]
    known: Known = field(default_factory=Known)
    now: Now = field(default_factory=now)
    me: Self = ME


PAST = from_microseconds(NOW_US - 1)
REFUSALS = [
    Row("an owner that was superseded", "stale_epoch", {}, Known(epoch=8)),
    Row("a later fence of the target was seen", "stale_token", {}, Known(token=4)),
    Row("its time is over", "expired", {"expires_at": PAST}),
    Row(
        "its time is over by the log's stamp",
        "expired",
        {"expires_at": from_microseconds(NOW_US + 1)},
        now=now(stamp_us=NOW_US + 2),
    ),
    Row("our clock is ahead", "clock_skew", {}, now=now(skew_us=SECOND_US + 1)),
    Row("our clock is behind", "clock_skew", {}, now=now(skew_us=-SECOND_US - 1)),
    Row("it was stamped in our future", "clock_skew", {}, now=now(stamp_us=NOW_US + 2 * SECOND_US)),
    Row("we would end ourselves", "own_target", {"target": "host:mgmt-1"}),
    Row("a dry run", "dry_run", {"mode": "dry_run"}),
    Row("we only show", "dry_run", {}, me=Self(ACTUATOR, is_dry_run=True)),
    Row("another has the target", "locked", {}, Known(locked_until_us=NOW_US + 1)),
]


@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: row.why)
def test_an_action_is_refused_with_its_reason(row: Row) -> None:
    turn = decide(action(**row.change), row.known, row.me, row.now)
    assert turn == Turn("answer", Outcome("REJECTED", {"reason": row.reason}))


KNOWN = [
    pytest.param(Known(), Turn("run"), id="never heard of"),
    pytest.param(Known(epoch=7, token=3), Turn("run"), id="the epoch and token that count"),
    pytest.param(Known(locked_until_us=NOW_US), Turn("run"), id="the other's lease is over"),
    pytest.param(Known(has_begun=True, is_running=True), Turn("leave"), id="it runs here"),
    pytest.param(Known(has_begun=True), Turn("ask"), id="it was begun before a crash"),
    pytest.param(Known(Outcome("UNKNOWN")), Turn("ask"), id="nobody knew how it ended"),
    pytest.param(
        Known(Outcome("CONFIRMED"), epoch=9),
        Turn("answer", Outcome("CONFIRMED")),
        id="it ended before, under whatever epoch",
    ),
]


@pytest.mark.parametrize(("known", "expected"), KNOWN)
def test_what_was_done_before_decides(known: Known, expected: Turn) -> None:
    assert decide(action(), known, ME, now()) == expected


def test_who_only_tells_waits_for_nobody() -> None:
    busy = Known(locked_until_us=NOW_US + 1)
    assert decide(action(verb="notify", fence_token=0), busy, ME, now()).do == "run"


def gate(folder: Path, keys: KeySet | None = None, facts: dict[str, str] | None = None) -> Gate:
    told = {name: (lambda target, value=value: value) for name, value in (facts or {}).items()}
    trust = Trust(keys, private(ACTUATOR))
    return Gate(open_ledger(folder / "ledger.db"), ME, trust, {"fence", "evacuate_vm"}, told)


def answers(gate: Gate) -> list[Result]:
    """Return what is owed, and forget it."""
    found = []
    for owed in gate.ledger.owed():
        frame = Frame.model_validate(orjson.loads(owed.value))
        assert (owed.topic, owed.partition, owed.key) == ("firstfault.log.v1", 0, DOMAIN)
        found += [one for one in frame.inputs if isinstance(one, Result)]
        gate.ledger.paid(owed)
    return found


def run(gate: Gate, given: Action) -> str:
    """Take an action as a consumer does; return what was to be done."""
    turn = gate.look(given, NOW_US, NOW_US)
    if turn.do == "run":
        turn = gate.begin(given, NOW_US, NOW_US)
    if turn.outcome is not None:
        return str(turn.outcome.proof.get("reason", turn.outcome.state))
    return turn.do


def test_an_action_runs_once_and_a_repeat_gets_the_stored_result(tmp_path: Path) -> None:
    first = gate(tmp_path)
    assert run(first, action()) == "run"
    assert run(first, action(action_id="a2", epoch=8)) == "leave"
    first.end(action(), Outcome("CONFIRMED", {"method": "bmc_off", "observed_state": "OFF"}))
    (result,) = answers(first)
    assert (result.state, result.verb, result.actuator) == ("CONFIRMED", "fence", ACTUATOR)
    first.ledger.close()
    again = gate(tmp_path)
    assert run(again, action(action_id="a2", epoch=8)) == "CONFIRMED"
    again.ledger.close()


def test_what_was_begun_before_a_crash_is_asked_about_and_keeps_its_target(tmp_path: Path) -> None:
    first = gate(tmp_path)
    run(first, action())
    first.ledger.close()
    again = gate(tmp_path)
    assert [one.idempotency_key for one in again.ledger.unended()] == ["k1"]
    assert run(again, action()) == "ask"
    assert run(again, action(idempotency_key="k2")) == "locked"
    again.end(action(), Outcome("UNKNOWN"))
    assert again.ledger.unended() == []
    assert run(again, action(idempotency_key="k2")) == "run"
    again.ledger.close()


def test_the_highest_epoch_and_token_outlive_a_restart(tmp_path: Path) -> None:
    first = gate(tmp_path)
    run(first, action(epoch=9, fence_token=5, expires_at=PAST))
    first.ledger.close()
    again = gate(tmp_path)
    assert run(again, action(epoch=8, fence_token=6)) == "stale_epoch"
    assert run(again, action(epoch=9, fence_token=4)) == "stale_token"
    assert run(again, action(epoch=1, domain="pod-2", target="host:x")) == "run"
    again.ledger.close()


def test_a_revoked_key_never_runs_unless_it_has_begun(tmp_path: Path) -> None:
    found = gate(tmp_path)
    word = action(
        verb="revoke", idempotency_key="r1", parameters={"revokes": "k1", "verb": "fence"}
    )
    assert found.is_ours(word)
    assert not found.is_ours(action(verb="revoke", parameters={"verb": "notify"}))
    assert run(found, action(epoch=9, idempotency_key="k0", target="host:h9")) == "run"
    assert run(found, word) == "stale_epoch"
    assert run(found, word.model_copy(update={"epoch": 9})) == "CONFIRMED"
    assert run(found, action(epoch=9)) == "revoked"
    late = {"revokes": "k0", "verb": "fence"}
    begun = word.model_copy(update={"epoch": 9, "parameters": late, "idempotency_key": "r2"})
    assert run(found, begun) == "it has been begun"
    found.ledger.close()


CHECKS = [{"fact": "vm_host", "target": "vm:v1", "equals": "host:h3"}]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param({"vm_host": "host:h3"}, "run", id="as it was thought"),
        pytest.param({"vm_host": "host:h4"}, "precondition", id="it has moved"),
        pytest.param({}, "precondition", id="nobody can tell"),
    ],
)
def test_a_precondition_is_checked_when_it_runs(
    tmp_path: Path, facts: dict[str, str], expected: str
) -> None:
    found = gate(tmp_path, facts=facts)
    moving = action(verb="evacuate_vm", target="vm:v1", preconditions=CHECKS)
    assert run(found, moving) == expected
    found.ledger.close()


def test_a_fence_of_ones_own_is_a_precondition_that_holds(tmp_path: Path) -> None:
    found = gate(tmp_path)
    check = [{"fact": "fence", "target": "host:h3", "equals": "CONFIRMED"}]
    moving = action(
        verb="evacuate_vm", target="vm:v1", idempotency_key="k2", preconditions=check, needs=["k1"]
    )
    assert run(found, moving) == "precondition"
    run(found, action())
    found.end(action(), Outcome("CONFIRMED"))
    assert run(found, moving) == "run"
    found.ledger.close()


# ---- who is believed -----------------------------------------------------------------------


def sent(identity: str, **more: Any) -> bytes:  # noqa: ANN401 - fields of an action
    """Return an action as an identity signs it."""
    return canonical(document_of(signer(identity).signed(action(**more)))).encode()


FOREIGN = [
    pytest.param(b"\x00\xff", "signature_bad", id="garbage"),
    pytest.param(b"[]", "schema", id="no object"),
    pytest.param(b'{"verb":"fence"}', "schema", id="not all of it"),
    pytest.param(b"x" * 1_048_577, "too_long", id="too long"),
    pytest.param(
        canonical(document_of(action())).encode(), "signature_missing", id="not signed"
    ),
    pytest.param(sent(OPERATOR), "signature_not_allowed", id="one who may not send actions"),
    pytest.param(
        sent(WORKER).replace(b"host:h3", b"host:h4"), "signature_bad", id="changed on the way"
    ),
    pytest.param(
        sent(WORKER).replace(b'"schema_version":1', b'"schema_version":2'),
        "schema",
        id="another major version",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("value", "code"), FOREIGN)
def test_what_no_owner_has_sent_is_refused(tmp_path: Path, value: bytes, code: str) -> None:
    found = gate(tmp_path, key_set())
    with pytest.raises(Refused) as refused:
        found.read(value, NOW_US)
    assert refused.value.code == code
    found.ledger.close()


@pytest.mark.parametrize(
    "more",
    [
        {"expires_at": "tomorrow"},
        {"expires_at": "2026-11-23T10:00:00"},
        {"epoch": 2**70},
        {"fence_token": 2**63},
        {"target_generation": 2**64},
        {"max_runtime_s": 1e300},
        {"reply_to": {"key": DOMAIN, "partition": 5}},
        {"reply_to": {"key": DOMAIN, "topic": "firstfault.actions.v1"}},
        {"idempotency_key": "\ud800"},
        {"of_a_newer_version": "\ud800"},
    ],
    ids="-".join,
)
def test_what_no_ledger_and_no_answer_could_hold_costs_only_itself(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    found = gate(tmp_path)
    with pytest.raises(Refused):
        found.read(json.dumps(document_of(action()) | more).encode(), NOW_US)
    found.ledger.close()


@pytest.mark.parametrize(
    "more", [{"of_a_newer_version": 10**400}, {"expires_at": "9999-12-31T23:59:59-14:00"}]
)
def test_what_a_ledger_can_hold_is_carried_out(tmp_path: Path, more: dict[str, Any]) -> None:
    found = gate(tmp_path)
    given = found.read(json.dumps(document_of(action()) | more).encode(), NOW_US)
    assert run(found, given) == "run"
    found.end(given, Outcome("CONFIRMED"))
    assert [one.state for one in answers(found)] == ["CONFIRMED"]
    found.ledger.close()


def test_what_the_owner_has_sent_is_believed_and_answered_with_a_signature(tmp_path: Path) -> None:
    from correlator.signatures import signer_of  # noqa: PLC0415

    found = gate(tmp_path, key_set())
    given = found.read(sent(WORKER), NOW_US)
    run(found, given)
    found.end(given, Outcome("CONFIRMED", {"observed_state": "OFF"}))
    (result,) = answers(found)
    key = signer_of(document_of(result), key_set(), DOMAIN, "0", NOW_US)
    assert key.identity == ACTUATOR
    found.ledger.close()


def test_a_ledger_has_one_user(tmp_path: Path) -> None:
    first = open_ledger(tmp_path / "ledger.db")
    with pytest.raises(LogError, match="another consumer"):
        open_ledger(tmp_path / "ledger.db")
    first.close()


def test_what_cannot_run_any_more_is_forgotten(tmp_path: Path) -> None:
    found = gate(tmp_path)
    run(found, action())
    found.end(action(), Outcome("CONFIRMED"))
    found.ledger.forget(NOW_US)
    assert run(found, action()) == "CONFIRMED"
    later_us = NOW_US + 30 * 86_400 * SECOND_US
    found.ledger.forget(later_us)
    assert found.look(action(), later_us, NOW_US) == Turn("leave")  # Nobody waits any more.
    found.ledger.close()


class Hand:
    """A clock that only a test moves."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_key_set_follows_its_file_and_is_not_read_at_each_refusal() -> None:
    clock, reads = Hand(), list[float]()
    first, second = key_set(), key_set(key(WORKER, 1), name="second")
    told: list[KeySet | None] = [first, second, None, first]

    def read_again() -> KeySet | None:
        reads.append(clock.now_s)
        return told[len(reads) - 1]

    believed = Believed(Trust(first, read_again=read_again), clock)
    assert not believed.has_news()
    assert reads == []
    clock.now_s += 1.0
    assert not believed.has_news()  # The same set.
    assert not believed.has_news()
    clock.now_s += 1.0
    assert believed.has_news()
    assert believed.current() == second
    clock.now_s += 5.0
    assert believed.current() == second  # It cannot be read: nothing changes.
    clock.now_s += 4.5
    assert believed.current() == second
    clock.now_s += 0.5
    assert believed.current() == first
    assert reads == [101.0, 102.0, 107.0, 112.0]
