"""Signatures: what is believed, and each way of not being believed."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from correlator.engine import Stamped
from correlator.signatures import Refused, Signer, signer_of
from correlator.signing import Believed, Verifier
from schemas.base import canonical, document_of
from schemas.inputs import Command, Event, Input, Tick, TopologyDelta
from schemas.keys import KeySet
from schemas.outputs import Action
from tests.signed import (
    ACTUATOR,
    ADMIN,
    COLLECTOR,
    DOMAIN,
    OPERATOR,
    REGION,
    WORKER,
    checked,
    claim,
    command,
    edit,
    key,
    key_set,
    line,
    result,
    signed,
    signer,
    verdict,
)
from tests.worlds import SECOND_US, START_US, Row, actions, at, engine, event, feed, reasons

GOOD: list[tuple[str, Input]] = [
    (OPERATOR, command()),
    (ACTUATOR, result()),
    (WORKER, claim()),
    (COLLECTOR, edit()),
    (REGION, verdict()),
]
IDS = [given.type for _, given in GOOD]


def codes(
    folder: Path, *given: Input, keys: tuple[KeySet, ...] = (), second: float = 0
) -> list[str]:
    """Return why each input is not believed; an empty list where all are."""
    lines = [line(one, second, offset) for offset, one in enumerate(given)]
    believed, letters = checked(folder, lines, keys)
    assert len(believed) + len(letters) == len(given)
    assert [letter.position for letter in letters] == sorted(letter.position for letter in letters)
    return [letter.code for letter in letters]


@pytest.mark.parametrize(("identity", "given"), GOOD, ids=IDS)
def test_what_is_signed_by_whom_it_is_from_is_believed(
    tmp_path: Path, identity: str, given: Input
) -> None:
    believed, letters = checked(tmp_path, [line(signed(identity, given))])
    assert not letters
    assert [record.input for record in believed] == [signed(identity, given)]


@pytest.mark.parametrize(("identity", "given"), GOOD, ids=IDS)
def test_what_is_not_signed_is_not_believed(tmp_path: Path, identity: str, given: Input) -> None:
    assert codes(tmp_path, given) == ["signature_missing"]


@pytest.mark.parametrize(("identity", "given"), GOOD, ids=IDS)
@pytest.mark.parametrize(("domain", "generation"), [("pod-2", "0"), (DOMAIN, "1")])
def test_a_signature_counts_in_one_log_only(
    tmp_path: Path, identity: str, given: Input, domain: str, generation: str
) -> None:
    elsewhere = signed(identity, given, domain=domain, generation=generation)
    assert codes(tmp_path, elsewhere) == ["signature_bad"]


@pytest.mark.parametrize(("identity", "given"), GOOD, ids=IDS)
@pytest.mark.parametrize("other", [OPERATOR, ADMIN, ACTUATOR, WORKER, COLLECTOR, REGION])
def test_nobody_speaks_for_another(tmp_path: Path, identity: str, given: Input, other: str) -> None:
    expected = [] if other == identity else ["signature_not_allowed"]
    assert codes(tmp_path, signed(other, given)) == expected


@pytest.mark.parametrize(
    ("identity", "given"),
    [
        pytest.param(
            OPERATOR, command("set_mode", target="enforce"), id="a command it may not say"
        ),
        pytest.param(OPERATOR, command(by=ADMIN), id="an operator in another's name"),
        pytest.param(OPERATOR, command(by=""), id="an operator in nobody's name"),
        pytest.param(ACTUATOR, result("evacuate_vm"), id="a verb that is not the actuator's"),
        pytest.param(ACTUATOR, result(actuator="actuator:mgmt-2"), id="in another's name"),
        pytest.param(ACTUATOR, result(verb=""), id="a result that names no verb"),
        pytest.param(COLLECTOR, edit("collector:compute-31/libvirt"), id="a longer name"),
    ],
)
def test_a_key_says_only_what_it_may(tmp_path: Path, identity: str, given: Input) -> None:
    assert codes(tmp_path, signed(identity, given)) == ["signature_not_allowed"]


def test_a_key_that_is_not_in_the_set_is_unknown(tmp_path: Path) -> None:
    assert codes(tmp_path, signed(OPERATOR, command(), 1)) == ["signature_unknown_key"]


@pytest.mark.parametrize(
    ("second", "expected"),
    [(9, ["signature_expired"]), (10, []), (20, []), (21, ["signature_expired"])],
)
def test_a_key_counts_in_its_time_of_the_log(
    tmp_path: Path, second: float, expected: list[str]
) -> None:
    keys = key_set(key(OPERATOR, not_before=at(10), not_after=at(20)))
    given = signed(OPERATOR, command())
    assert codes(tmp_path, given, keys=(keys,), second=second) == expected


def test_a_stamp_that_goes_back_brings_no_key_to_life(tmp_path: Path) -> None:
    keys = key_set(key(OPERATOR, not_after=at(20)))
    lines = [line(event("host:h1", "x"), 30, 0), line(signed(OPERATOR, command()), 5, 1)]
    assert [letter.code for letter in checked(tmp_path, lines, [keys])[1]] == ["signature_expired"]


def test_what_needs_no_signature_passes_and_what_is_refused_stops_nothing(tmp_path: Path) -> None:
    lines = [
        line(event("host:h1", "x"), 0, 0),
        line(command(), 0, 1),
        line(event("host:h2", "x"), 0, 2),
    ]
    believed, letters = checked(tmp_path, lines)
    entities = [one.input.entity for one in believed if isinstance(one.input, Event)]
    assert entities == ["host:h1", "host:h2"]
    assert [(one.code, one.position) for one in letters] == [("signature_missing", 3)]


# ---- altered --------------------------------------------------------------------------------


def _edited(change: Callable[[str], str]) -> bytes:
    text = line(signed(OPERATOR, command(reason="DIMM swap"))).decode()
    assert change(text) != text
    return change(text).encode()


VECTOR = (
    "56475aa75463474c:iiRMXJH3ALfGsruQDYtkSyupgiDHVEzhDAHZ5CrWutwdNzFYEGdQfni8"
    "+o2ixyzrulLpb0eeBpsDiU6OzfjaBA=="
)
"""By the key whose seed is the bytes 0 to 31, of the canonical text in UTF-8."""


def _with_other_bits(text: str) -> str:
    start = text.index('=="') - 1
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return text[:start] + digits[digits.index(text[start]) + 1] + text[start + 1 :]


ALTERED: dict[str, Callable[[str], str]] = {
    "another target": lambda text: text.replace("domain:pod-1", "domain:pod-9"),
    "a new field": lambda text: text.replace('"input":{', '"input":{"until":"2027-01-01T00:00Z",'),
    "a field less": lambda text: text.replace('"reason":"DIMM swap",', ""),
    "a field twice": lambda text: text.replace('"reason":', '"target":"host:h9","reason":'),
    "an input twice": lambda text: text.replace('"input":', '"input":{"type":"event"},"input":'),
    "unused bits of base64": _with_other_bits,
    "no padding": lambda text: text.replace('=="', '"'),
    "white space": lambda text: text.replace('"signature":"', '"signature":" '),
    "text behind": lambda text: text.replace('=="', '==\\n"'),
    "a huge signature": lambda text: text.replace('"signature":"', '"signature":"' + "A" * 400_000),
    "not a text": lambda text: text.replace('"by":"operator', '"\\ud800":1,"by":"operator'),
    "deep": lambda text: text.replace('"by":', '"deep":' + "[" * 50_000 + "]" * 50_000 + ',"by":'),
    "endless digits": lambda text: text.replace('"by":', '"n":' + "9" * 5_000 + ',"by":'),
    "beyond a double": lambda text: text.replace('"by":', '"n":1e999,"by":'),
}  # fmt: skip


def test_a_signature_has_one_form_only(tmp_path: Path) -> None:
    """Adding the order of the group to S gives a second signature (RFC 8032, section 5.1.7)."""
    order = 2**252 + 27742317777372353535851937790883648493
    given = signed(OPERATOR, command())
    assert isinstance(given, Command)
    key_id, _, text = given.signature.partition(":")
    raw = base64.b64decode(text)
    other = (int.from_bytes(raw[32:], "little") + order).to_bytes(32, "little")
    forged = f"{key_id}:{base64.b64encode(raw[:32] + other).decode()}"
    assert codes(tmp_path, given.model_copy(update={"signature": forged})) == ["signature_bad"]


def test_who_signs_elsewhere_can_compare_with_this() -> None:
    document = {"type": "command", "by": "operator:\u00fc", "n": [1, 2.5, None], "signature": "x"}
    private_key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    assert Signer(private_key, "pod-1", "0").signature(document) == VECTOR


@pytest.mark.parametrize("change", ALTERED.values(), ids=ALTERED)
def test_what_was_altered_is_not_believed(tmp_path: Path, change: Callable[[str], str]) -> None:
    believed, letters = checked(tmp_path, [_edited(change), line(event("host:h1", "x"), 1, 1)])
    assert [record.input.type for record in believed] == ["event"]
    assert [letter.position for letter in letters] == [2]
    assert letters[0].code in ("signature_bad", "schema", "not_json")


def test_the_order_of_keys_and_white_space_mean_nothing(tmp_path: Path) -> None:
    document = json.loads(line(signed(OPERATOR, command())))
    document["input"] = dict(reversed(document["input"].items()))
    _, letters = checked(tmp_path, [json.dumps(document, ensure_ascii=True).encode()])
    assert not letters


def test_fields_of_a_newer_producer_are_signed_too(tmp_path: Path) -> None:
    newer = Command.model_validate({**document_of(command()), "ticket": "CHG-1"})
    text = line(signed(OPERATOR, newer))
    assert not checked(tmp_path, [text])[1]
    altered = text.replace(b"CHG-1", b"CHG-2")
    assert [one.code for one in checked(tmp_path, [altered])[1]] == ["signature_bad"]


# ---- sent again -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [command(command_id=None), command(expires_at=None), command(expires_at=at(90_000))],
    ids=["no id", "no end", "good for more than a day"],
)
def test_a_command_that_could_be_sent_again_for_ever_is_refused(
    tmp_path: Path, given: Command
) -> None:
    assert codes(tmp_path, signed(OPERATOR, given)) == ["signature_replayable"]


def test_a_command_counts_once_however_many_came_between(tmp_path: Path) -> None:
    once = signed(OPERATOR, command())
    others = [signed(OPERATOR, command("release", command_id=f"r-{n}")) for n in range(1_200)]
    assert codes(tmp_path, once, *others, once) == ["signature_replayed"]


def test_an_expired_command_goes_to_the_engine_which_refuses_it_and_is_forgotten() -> None:
    verifier = Verifier.from_start(DOMAIN, "0", [key_set()])
    given = signed(OPERATOR, command(expires_at=at(5)))
    record = Stamped(0, 0, START_US + 6_000_000, given)
    assert verifier.refusal(record, line(given, 6)) is None
    assert not verifier.believed.commands


def test_what_has_expired_is_forgotten() -> None:
    verifier = Verifier.from_start(DOMAIN, "0", [key_set()])
    for second in range(600):
        given = signed(OPERATOR, command(command_id=str(second), expires_at=at(second + 60)))
        record = Stamped(second, 0, START_US + second * SECOND_US, given)
        assert verifier.refusal(record, line(given, second)) is None
        assert len(verifier.believed.commands) <= 61
    assert len(verifier.believed.commands) == len(verifier.believed.expiries) == 61


def test_an_older_edit_of_the_same_source_is_refused(tmp_path: Path) -> None:
    there, back = signed(COLLECTOR, edit(to="host:h2", second=1)), signed(COLLECTOR, edit())
    other = signed(COLLECTOR, edit(f"{COLLECTOR}/ovs"))
    spooled = signed(COLLECTOR, edit(vm="vm:v2", second=-9))
    given = [back, there, other, spooled, there, back]
    assert codes(tmp_path, *given) == ["signature_replayed"]


def test_an_older_edge_brings_no_removed_node_back(tmp_path: Path) -> None:
    edge = signed(COLLECTOR, edit(second=1))
    source = f"{COLLECTOR}/libvirt"
    gone = TopologyDelta(op="remove_node", node="host:h1", source=source, at=at(2))
    again = signed(COLLECTOR, edit(second=3))
    given = [edge, signed(COLLECTOR, gone), edge, again]
    assert codes(tmp_path, *given) == ["signature_replayed"]


def test_an_older_verdict_on_the_same_resource_is_refused(tmp_path: Path) -> None:
    given = [signed(REGION, one) for one in (verdict(1), verdict(2), verdict(1))]
    assert codes(tmp_path, *given) == ["signature_replayed"]


def test_an_edit_without_its_time_could_be_sent_again(tmp_path: Path) -> None:
    timeless = edit().model_copy(update={"at": None})
    assert codes(tmp_path, signed(COLLECTOR, timeless)) == ["signature_replayable"]


def test_a_verdict_that_has_expired_is_refused(tmp_path: Path) -> None:
    given = signed(REGION, verdict())
    assert codes(tmp_path, given, second=30) == []
    assert codes(tmp_path, given, second=31) == ["signature_expired"]


# ---- key sets are inputs of the log ----------------------------------------------------------


FIRST = key_set()
SECOND = key_set(key(ADMIN), key(OPERATOR, 1), name="second")


def _unsigned_activation(by: str) -> Command:
    return command("activate_keys", by, target=f"keys:{SECOND.hash}")


def _activation(keys: str, **more: object) -> Input:
    given = {"target": f"keys:{keys}", "command_id": f"keys-{keys}", **more}
    return signed(ADMIN, command("activate_keys", ADMIN, **given))


def test_from_its_activation_on_another_key_set_counts(tmp_path: Path) -> None:
    old, new = signed(OPERATOR, command(command_id="a")), signed(OPERATOR, command(), 1)
    older = signed(OPERATOR, command(command_id="b"))
    given = [new, old, _activation(SECOND.hash), new, older]
    lines = [line(one, 0, offset) for offset, one in enumerate(given)]
    _, letters = checked(tmp_path, lines, [FIRST, SECOND])
    assert [(one.position - 2, one.code) for one in letters] == [
        (0, "signature_unknown_key"),
        (4, "signature_unknown_key"),
    ]


@pytest.mark.parametrize(
    "activation",
    [
        pytest.param(signed(OPERATOR, _unsigned_activation(OPERATOR)), id="by one who may not"),
        pytest.param(_unsigned_activation(ADMIN), id="unsigned"),
        pytest.param(_activation(SECOND.hash, expires_at=at(-1)), id="too late"),
    ],
)  # fmt: skip
def test_nothing_else_changes_the_key_set(tmp_path: Path, activation: Input) -> None:
    new = signed(OPERATOR, command(), 1)
    assert codes(tmp_path, activation, new, keys=(FIRST, SECOND))[-1] == "signature_unknown_key"


def test_an_activation_sent_again_does_not_bring_old_keys_back(tmp_path: Path) -> None:
    back = key_set(name="back")
    third = signed(ADMIN, command("activate_keys", ADMIN, target=f"keys:{SECOND.hash}"))
    given = [_activation(SECOND.hash), _activation(back.hash), third, _activation(back.hash)]
    old = signed(OPERATOR, command())
    told = codes(tmp_path, *given, old, keys=(FIRST, SECOND, back))
    assert told == ["signature_replayed", "signature_unknown_key"]


def test_under_a_key_set_that_is_not_here_nothing_is_believed_but_the_way_out(
    tmp_path: Path,
) -> None:
    given = [
        _activation("0" * 32),
        signed(ACTUATOR, result()),
        signed(OPERATOR, command()),
        signed(WORKER, claim()),
        _activation(SECOND.hash),
        signed(OPERATOR, command(), 1),
    ]
    assert codes(tmp_path, *given, keys=(FIRST, SECOND)) == ["keys_unknown"] * 4


def test_a_verifier_goes_on_from_what_another_remembered() -> None:
    given = [_activation(SECOND.hash), signed(OPERATOR, command(), 1)] * 2
    records = [Stamped(n, 0, START_US + n, one) for n, one in enumerate(given)]
    whole = Verifier.from_start(DOMAIN, "0", [FIRST, SECOND])
    told = [whole.refusal(one, line(one.input)) for one in records]
    for cut in range(len(records)):
        first = Verifier.from_start(DOMAIN, "0", [FIRST, SECOND])
        before = [first.refusal(one, line(one.input)) for one in records[:cut]]
        kept = json.loads(canonical(first.document()))
        second = Verifier(Believed(**kept), [FIRST, SECOND])
        after = [second.refusal(one, line(one.input)) for one in records[cut:]]
        assert before + after == told
        assert second.document() == whole.document()


def test_a_verifier_needs_the_key_set_it_goes_on_with() -> None:
    with pytest.raises(ValueError, match="not among those given"):
        Verifier(Believed(DOMAIN, "0", SECOND.hash), [FIRST])


# ---- actions --------------------------------------------------------------------------------


def test_an_actuator_knows_who_signed_an_action() -> None:
    action = Action(
        action_id="a", idempotency_key="k", verb="fence", target="host:h1", target_generation=0,
        domain=DOMAIN, incident_id="i", policy="p", step=1, mode="enforce",
        expires_at="2026-11-23T10:01:00Z",
    )  # fmt: skip
    sent = document_of(signer(WORKER).signed(action))
    assert signer_of(sent, FIRST, DOMAIN, "0", START_US).identity == WORKER
    for changed in ({"target": "host:h2"}, {"fence_token": 9}, {"mode": "dry_run"}):
        with pytest.raises(Refused, match="not what"):
            signer_of({**sent, **changed}, FIRST, DOMAIN, "0", START_US)


# ---- what the engine makes of it ------------------------------------------------------------


def test_a_result_that_names_another_verb_is_none_of_that_action() -> None:
    host, vms = "host:r0h0", ("vm:r0h0v0", "vm:r0h0v1")
    folding = engine(ticks="recorded")
    rows: list[Row] = [
        (0, event(host, "host.down", source=source, attrs={"plane": plane}))
        for source in "ab"
        for plane in ("mgmt", "storage")
    ]
    rows += [(0, event(vm, "vm.down", source=vm)) for vm in vms]
    first = feed(folding, [*rows, *((n / 10, Tick()) for n in range(1, 21))])
    fence = next(one for one in first if isinstance(one, Action) and one.verb == "fence")
    given = result("unfence").model_copy(update={"idempotency_key": fence.idempotency_key})
    start = folding.state.offset + 1
    assert actions(feed(folding, [(2.1, given)], start)) == []
    assert folding.state.counters["results_unknown"] == 1
    proven = given.model_copy(update={"verb": "fence"})
    told = actions(feed(folding, [(2.2, proven)], start + 1))
    assert told == [("evacuate_vm", vm) for vm in vms]


def test_the_engine_notes_that_other_keys_count() -> None:
    given = command("activate_keys", ADMIN, target=f"keys:{SECOND.hash}")
    assert reasons(feed(engine(), [(0, given)])) == ["keys_activated"]
