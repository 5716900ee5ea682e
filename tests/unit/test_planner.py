"""From a cause to actions: what leaves, what waits, and for which reason."""

import pytest

from correlator.engine import Engine, Stamped
from correlator.rules.ruleset import RuleSet
from correlator.state import ROOTS_MAX
from correlator.topology import Edge
from schemas.inputs import Command, OwnerClaim, Pulse, Result, Tick
from schemas.outputs import Action, Decision, Incident, Output
from schemas.rules import Policy
from tests.worlds import (
    POLICIES,
    RULES,
    SIGNATURES,
    Row,
    actions,
    cloud,
    engine,
    event,
    feed,
    log,
    reasons,
    rule_set,
    signature,
)

HOST = "host:r0h0"
VMS = ["vm:r0h0v0", "vm:r0h0v1"]
DOWN: list[Row] = [
    (0.0, event(HOST, "host.down", source="peer:0", attrs={"plane": "mgmt"})),
    (0.0, event(HOST, "host.down", source="peer:9", attrs={"plane": "storage"})),
    (0.0, event(HOST, "host.down", source="peer:0", attrs={"plane": "storage"})),
    (0.0, event(HOST, "host.down", source="peer:9", attrs={"plane": "mgmt"})),
    (0.1, event(VMS[0], "vm.down", source="peer:1")),
    (0.1, event(VMS[1], "vm.down", source="peer:2")),
    (0.2, event("app:r0h0v0", "app.down", source="peer:3")),
    (0.2, event("app:r0h0v1", "app.down", source="peer:4")),
]


def of(outputs: list[Output], verb: str) -> Action:
    """Return the first action of a verb."""
    return next(one for one in outputs if isinstance(one, Action) and one.verb == verb)


def answer(action: Action, state: str = "CONFIRMED") -> Result:
    """Return an actuator's answer."""
    given = {"action_id": action.action_id, "idempotency_key": action.idempotency_key}
    proof = {"method": action.method or "bmc_off", "observed_state": "OFF"}
    return Result.model_validate(
        {**given, "actuator": "actuator:1", "state": state, "proof": proof}
    )


def stepped(folding: Engine, rows: list[Row]) -> list[Output]:
    """Return what an engine with recorded ticks says of a log, ticks as the log has them."""
    return feed(folding, rows, folding.state.offset + 1)


def ticking(rows: list[Row], end: float) -> list[Row]:
    """Return a live log: the rows with a tick each 100 ms."""
    ticks: list[Row] = [(n / 10, Tick()) for n in range(1, round(end * 10) + 1)]
    return sorted([*rows, *ticks], key=lambda row: row[0])


def after(start: float, end: float) -> list[Row]:
    """Return a tick each half second of a span."""
    return [(start + n / 2, Tick()) for n in range(1, round((end - start) * 2) + 1)]


def live(rules: RuleSet = RULES, edges: list[Edge] | None = None, mode: str = "enforce") -> Engine:
    return engine(rules, edges, ticks="recorded", mode=mode)


def test_harmless_steps_leave_at_once_and_destructive_ones_wait_for_their_proof() -> None:
    folding = live()
    first = stepped(folding, ticking(DOWN, 2.0))
    assert actions(first) == [("quarantine", HOST), ("fence", HOST)]
    assert reasons(first)[-1] == "needs_proof"
    second = stepped(folding, [(2.1, answer(of(first, "fence")))])
    assert actions(second) == [("evacuate_vm", vm) for vm in VMS]
    assert of(second, "evacuate_vm").needs == [of(first, "fence").idempotency_key]


@pytest.mark.parametrize("state", ["FAILED", "UNKNOWN", "TIMED_OUT", "REJECTED"])
def test_a_host_that_cannot_be_fenced_is_paged_for_and_nothing_is_evacuated(state: str) -> None:
    folding = live()
    fence = of(stepped(folding, ticking(DOWN, 2.0)), "fence")
    second = stepped(folding, [(2.1, answer(fence, state)), *after(2.1, 60.0)])
    assert actions(second) == [("page", HOST)]
    assert reasons(second).count("unfenceable") == 1


def test_a_fence_that_runs_is_no_proof_and_one_that_never_answers_times_out() -> None:
    folding = live()
    fence = of(stepped(folding, ticking(DOWN, 2.0)), "fence")
    second = stepped(folding, [(2.1, answer(fence, "RUNNING")), *after(2.1, 50.0)])
    assert actions(second) == []
    third = stepped(folding, after(50.0, 70.0))
    assert actions(third) == [("page", HOST)]
    assert {code for code in reasons(third) if code != "policy"} == {"timed_out", "unfenceable"}


@pytest.mark.parametrize(
    "proof", [{}, {"method": "ping"}, {"method": "bmc_off", "observed_state": "ON"}]
)
def test_a_confirmation_without_what_was_observed_is_none(proof: dict[str, str]) -> None:
    folding = live()
    fence = of(stepped(folding, ticking(DOWN, 2.0)), "fence")
    told = answer(fence).model_copy(update={"proof": proof})
    second = stepped(folding, [(2.1, told)])
    assert actions(second) == [("page", HOST)]
    assert reasons(second)[0] == "no_proof"


LADDER = ["bmc_off", "pdu_off"]


def laddered() -> RuleSet:
    """Return rules under which a host is fenced by its BMC, else by its power outlets."""
    recover, tell = POLICIES
    steps = [{"fence": {"methods": LADDER}}, *recover.model_dump(exclude_unset=True)["do"][2:]]
    given = recover.model_dump(by_alias=True, exclude_unset=True) | {"do": steps, "hold": "1s"}
    return rule_set(policies=[Policy.model_validate(given), tell])


def test_the_next_method_has_its_turn_when_one_fails_and_its_proof_counts() -> None:
    folding = live(laddered())
    bmc = of(stepped(folding, ticking(DOWN, 2.0)), "fence")
    pdu = of(stepped(folding, [(2.1, answer(bmc, "FAILED"))]), "fence")
    assert [(one.method, one.attempt, one.fence_token) for one in (bmc, pdu)] == [
        ("bmc_off", 0, 1),
        ("pdu_off", 1, 2),
    ]
    assert bmc.idempotency_key != pdu.idempotency_key
    third = stepped(folding, [(2.2, answer(pdu))])
    assert actions(third) == [("evacuate_vm", vm) for vm in VMS]
    assert of(third, "evacuate_vm").needs == [pdu.idempotency_key]
    facts = [(one.fact, one.target, one.equals) for one in of(third, "evacuate_vm").preconditions]
    assert facts == [
        ("maintenance", VMS[0], "no"),
        ("fence", HOST, "CONFIRMED"),
        ("vm_desired", VMS[0], "ACTIVE"),
        ("vm_host", VMS[0], HOST),
        ("autostart", HOST, "off"),
        ("power_restore", HOST, "off"),
    ]


def test_a_host_that_speaks_again_is_not_evacuated() -> None:
    folding = live()
    fence = of(stepped(folding, ticking(DOWN, 2.0)), "fence")
    back = event(HOST, "host.down", "cleared")
    second = stepped(folding, [(2.1, back), (2.2, answer(fence))])
    assert actions(second) == [("page", HOST)]
    assert "contradictory_evidence" in reasons(second)


def test_a_fence_that_the_world_has_overtaken_is_not_tried_otherwise() -> None:
    folding = live(laddered())
    fence = of(stepped(folding, ticking(DOWN, 2.0)), "fence")
    told = answer(fence, "REJECTED").model_copy(update={"proof": {"precondition": "boot_id"}})
    second = stepped(folding, [(2.1, told), *after(2.1, 70.0)])
    assert actions(second) == []
    assert reasons(second)[0] == "precondition_failed"


def test_a_result_after_a_final_one_changes_nothing() -> None:
    folding = live()
    fence = of(stepped(folding, ticking(DOWN, 2.0)), "fence")
    stepped(folding, [(2.1, answer(fence, "FAILED"))])
    assert actions(stepped(folding, [(2.2, answer(fence, "CONFIRMED"))])) == []
    assert folding.state.counters["results_unknown"] == 1


@pytest.mark.parametrize("first", ["UNKNOWN", "TIMED_OUT"])
def test_a_proof_that_comes_late_is_a_proof(first: str) -> None:
    folding = live()
    fence = of(stepped(folding, ticking(DOWN, 2.0)), "fence")
    assert actions(stepped(folding, [(2.1, answer(fence, first))])) == [("page", HOST)]
    late = stepped(folding, [(2.2, answer(fence, "CONFIRMED"))])
    assert actions(late) == [("evacuate_vm", vm) for vm in VMS]


def test_a_proof_of_an_earlier_life_of_the_host_is_no_proof() -> None:
    folding = live()
    fence = of(stepped(folding, ticking(DOWN, 2.0)), "fence")
    folding.state.next_generation(HOST)
    assert actions(stepped(folding, [(2.1, answer(fence))])) == []


def test_a_dry_run_proves_nothing() -> None:
    folding = live(mode="dry_run")
    fence = of(stepped(folding, ticking(DOWN, 2.0)), "fence")
    assert fence.mode == "dry_run"
    second = stepped(folding, [(2.1, answer(fence))])
    assert (actions(second), reasons(second)) == ([], ["dry_run_result"])


def test_a_result_of_no_known_action_is_counted() -> None:
    folding = live()
    given = {"action_id": "a", "idempotency_key": "k", "state": "CONFIRMED"}
    assert feed(folding, [(0.0, Result.model_validate(given))]) == []
    assert folding.state.counters["results_unknown"] == 1


def test_what_destroys_waits_for_the_hold_and_what_is_harmless_does_not() -> None:
    folding = live()
    early = stepped(folding, ticking(DOWN, 0.9))
    assert actions(early) == [("quarantine", HOST)]
    assert "hold" in reasons(early)


def command(name: str, target: str, **more: object) -> Command:
    return Command.model_validate({"command": name, "target": target, **more})


def test_maintenance_is_a_reason_not_to_act() -> None:
    start = (0.05, command("maintenance_start", HOST, by="op", reason="DIMM"))
    outputs = stepped(live(), ticking([*DOWN, start], 3.0))
    assert actions(outputs) == []
    assert reasons(outputs).count("maintenance") == 1


def test_maintenance_that_begins_after_the_incident_stops_the_plan() -> None:
    start = (0.9, command("maintenance_start", HOST, by="op"))
    outputs = stepped(live(), ticking([*DOWN, start], 3.0))
    assert actions(outputs) == [("quarantine", HOST)]


def test_a_held_domain_ends_nothing_until_it_is_released_and_its_doubts_have_cooled() -> None:
    folding = live()
    hold = (0.5, command("hold", "pod-1", reason="change freeze"))
    held = stepped(folding, ticking([*DOWN, hold], 2.0))
    assert actions(held) == [("quarantine", HOST)]
    assert reasons(held)[-1] == "domain_hold"
    released = stepped(folding, [(2.1, command("release", "pod-1"))])
    assert actions(released) == []
    assert actions(stepped(folding, after(2.1, 63.5))) == [("fence", HOST)]


def test_nothing_destructive_leaves_in_a_stream_gap() -> None:
    folding = live()
    stepped(folding, ticking(DOWN, 0.9))
    gap = stepped(folding, [(60.0, Tick()), (60.1, Tick())])
    assert actions(gap) == []
    assert "stream_gap" in reasons(gap)
    ticks: list[Row] = [(60 + n / 2, Tick()) for n in range(1, 6)]
    assert actions(stepped(folding, ticks)) == [("fence", HOST)]


def test_one_witness_fences_nothing() -> None:
    rows: list[Row] = [
        (second, given.model_copy(update={"source": "peer:1"})) for second, given in DOWN
    ]
    rules = rule_set(source_cap=90.0)
    outputs = stepped(live(rules=rules), ticking(rows, 3.0))
    assert actions(outputs) == [("quarantine", HOST)]
    assert reasons(outputs)[-1] == "one_witness"


def test_a_second_source_of_the_same_symptom_is_a_second_witness() -> None:
    rows: list[Row] = [
        (second, given.model_copy(update={"source": "peer:1"})) for second, given in DOWN
    ]
    rows += [
        (0.3, event(HOST, "host.down", source="peer:2", attrs={"plane": plane}))
        for plane in ("mgmt", "storage")
    ]
    outputs = stepped(live(rules=rule_set(source_cap=90.0)), ticking(rows, 3.0))
    assert actions(outputs) == [("quarantine", HOST), ("fence", HOST)]


def test_what_was_spooled_bears_no_witness() -> None:
    folding = live()
    spooled = [
        Stamped(one.offset, one.index, one.log_us, one.input, spooled=one.offset != 0)
        for one in log(DOWN)
    ]
    outputs = [output for record in spooled for output in folding.step(record)]
    outputs += stepped(folding, ticking([], 3.0)[3:])
    assert actions(outputs) == [("quarantine", HOST)]


def test_what_has_cleared_bears_no_witness() -> None:
    clears: list[Row] = [
        (0.8, given.model_copy(update={"state": "cleared"})) for _, given in DOWN[1:]
    ]
    outputs = stepped(live(), ticking([*DOWN, *clears], 3.0))
    assert actions(outputs) == [("quarantine", HOST), ("page", HOST)]


def policy(**more: object) -> Policy:
    given = {"kind": "policy", "name": "p", "cause": "*", "confidence": ">= 0.5"}
    more.setdefault("do", [{"quarantine": {}}])
    return Policy.model_validate({**given, **more})


@pytest.mark.parametrize(
    ("guard", "reason"),
    [
        pytest.param({"only_if": "count(vm) >= 3"}, "guard_only_if", id="structure"),
        pytest.param(
            {"stop_if": {"roots": "host", "share": "30%", "within": "10m"}},
            "guard_stop_if",
            id="one of two hosts is over 30 %",
        ),
        pytest.param(
            {"stop_if": {"roots": "host", "share": "60%", "within": "10m"}},
            "policy",
            id="one of two hosts is not over 60 %",
        ),
        pytest.param({"only_if": "count(vm) >= 2"}, "policy", id="structure holds"),
    ],
)
def test_a_guard_stops_the_plan_with_its_reason(guard: dict[str, object], reason: str) -> None:
    rules = rule_set(policies=[policy(guard=guard, do=[{"fence": {}}])])
    outputs = stepped(live(rules=rules), ticking(DOWN, 3.0))
    assert reasons(outputs)[-1] == reason


def test_a_budget_stops_the_second_plan_and_comes_back_with_time() -> None:
    steps: list[dict[str, object]] = [{"quarantine": {}}, {"fence": {}}]
    guarded = policy(guard={"max": {"actions": 1, "per": "5s"}}, do=steps)
    folding = live(rules=rule_set(policies=[guarded]))
    outputs = stepped(folding, ticking(DOWN, 4.0))
    assert actions(outputs) == [("quarantine", HOST)]
    assert reasons(outputs)[-1] == "guard_max"
    assert actions(stepped(folding, after(4.0, 6.0))) == [("fence", HOST)]
    # Of what it did, only that is remembered which its budget still counts.
    assert len(folding.state.actions_us["p"]) == 1


def test_as_many_causes_are_remembered_as_guards_may_ask_about() -> None:
    state = live().state
    for number in range(ROOTS_MAX + 5):
        state.count_root(f"host:{number}")
    assert [root for _, root in state.roots_us[::ROOTS_MAX]] == ["host:5"]
    assert len(state.roots_us) == ROOTS_MAX


def test_a_cause_without_policy_and_one_below_its_confidence_are_told() -> None:
    silent = stepped(live(rules=rule_set(policies=[])), ticking(DOWN, 1.0))
    assert "no_policy" in reasons(silent)
    shy = policy(confidence=">= 0.99999999", do=[{"restart_process": {}}])
    outputs = stepped(live(rules=rule_set(policies=[shy])), ticking(DOWN, 1.0))
    assert "confidence_below_policy" in reasons(outputs)


def test_a_policy_that_names_the_cause_wins_over_the_one_for_all() -> None:
    both = [policy(), policy(name="own", cause="host-fault", do=[{"page": {}}])]
    outputs = stepped(live(rules=rule_set(policies=both)), ticking(DOWN, 1.0))
    assert actions(outputs) == [("page", HOST)]


def test_a_step_that_needs_what_the_plan_does_not_hold_never_leaves() -> None:
    never = policy(do=[{"evacuate_vm": {"target": "$root.vm", "needs": "fence.confirmed"}}])
    outputs = stepped(live(rules=rule_set(policies=[never])), ticking(DOWN, 3.0))
    waits = [one for one in outputs if isinstance(one, Decision) and one.reason == "needs_proof"]
    assert "nothing to confirm" in waits[0].text
    assert actions(outputs) == []


def test_parameters_name_the_root() -> None:
    moved = policy(do=[{"failover_link": {"parameters": {"away_from": "$root"}}}])
    outputs = stepped(live(rules=rule_set(policies=[moved])), ticking(DOWN, 3.0))
    assert of(outputs, "failover_link").parameters == {"away_from": HOST}


SHOWN = (("host.down", ""), ("vm.down", ".vm"), ("app.down", ".vm.app"))
RACK: list[Row] = [
    (2.5, event("host:r0h1", "host.down", source="peer:5", attrs={"plane": "mgmt"})),
    (2.6, event("vm:r0h1v0", "vm.down", source="peer:6")),
    (2.6, event("vm:r0h1v1", "vm.down", source="peer:6")),
    (2.6, event("app:r0h1v0", "app.down")),
    (2.6, event("app:r0h1v1", "app.down")),
]


RACK_FAULT = signature(
    "rack-fault", "rack", *((name, f"host{at}", 0.9) for name, at in SHOWN), prior=1e-5
)
RACK_RULES = rule_set(
    [RACK_FAULT, *[one for one in SIGNATURES if one.name not in ("rack-fault", "pool-fault")]]
)


def test_a_cause_that_is_no_longer_believed_is_taken_back_once() -> None:
    folding = live(rules=RACK_RULES)
    first = stepped(folding, ticking(DOWN, 2.0))
    assert actions(first) == [("quarantine", HOST), ("fence", HOST)]
    second = stepped(folding, [row for row in ticking(RACK, 6.0) if row[0] > 2.0])
    revoked = [one for one in second if isinstance(one, Action) and one.verb == "revoke"]
    sent = [of(first, "quarantine"), of(first, "fence")]
    assert [one.parameters["revokes"] for one in revoked] == [a.idempotency_key for a in sent]
    assert actions(stepped(folding, [(6.1, answer(sent[1]))])) == []


COMES_BACK = policy(
    do=[
        {"fence": {}},
        {"evacuate_vm": {"target": "$root.vm", "needs": "fence.confirmed"}},
        {"unfence": {}},
    ]
)


def test_a_host_comes_back_when_every_workload_has_left_it_and_is_a_new_generation() -> None:
    folding = live(rules=rule_set(policies=[COMES_BACK]))
    fence = of(stepped(folding, ticking(DOWN, 2.0)), "fence")
    moved = stepped(folding, [(2.1, answer(fence))])
    assert actions(moved) == [("evacuate_vm", vm) for vm in VMS]
    first, second = (one for one in moved if isinstance(one, Action))
    assert reasons(moved)[-1] == "still_moving"
    assert actions(stepped(folding, [(2.2, answer(first, "UNKNOWN"))])) == [("page", HOST)]
    soaking = stepped(folding, [(2.3, answer(second)), *after(2.3, 122.0)])
    assert actions(soaking) == []
    assert reasons(soaking)[-1] == "soak"
    last = stepped(folding, after(122.0, 123.0))
    assert actions(last) == [("unfence", HOST)]
    assert folding.state.fenced.keys() == {HOST}
    stepped(folding, [(123.1, answer(of(last, "unfence")))])
    assert folding.state.generations == {HOST: 1}
    assert not folding.state.fenced


def test_a_host_that_was_never_fenced_is_not_unfenced() -> None:
    outputs = stepped(
        live(rules=rule_set(policies=[policy(do=[{"unfence": {}}])])), ticking(DOWN, 1.0)
    )
    assert (actions(outputs), reasons(outputs)[-1]) == ([], "still_moving")


def opened(outputs: list[Output]) -> str:
    """Return the id of the one incident."""
    (name,) = {one.incident_id for one in outputs if isinstance(one, Incident)}
    return name


def test_in_mode_approve_a_person_is_called_and_decides() -> None:
    folding = live(mode="approve")
    first = stepped(folding, ticking(DOWN, 2.0))
    assert actions(first) == [("quarantine", HOST), ("page", HOST)]
    approved = stepped(folding, [(2.1, command("approve", opened(first), by="op"))])
    assert actions(approved) == [("fence", HOST)]
    assert of(approved, "fence").mode == "approve"


def test_what_was_rejected_is_taken_back_and_not_done() -> None:
    folding = live()
    first = stepped(folding, ticking(DOWN, 2.0))
    rejected = stepped(folding, [(2.1, command("reject", opened(first), by="op"))])
    assert actions(rejected) == [("revoke", HOST), ("revoke", HOST)]
    assert reasons(rejected)[-1] == "rejected"


def test_a_retry_begins_the_ladder_again_under_keys_of_its_own() -> None:
    folding = live(laddered())
    first = stepped(folding, ticking(DOWN, 2.0))
    told, keys = first, set[str]()
    for number in range(2):
        fence = of(told, "fence")
        keys.add(fence.idempotency_key)
        told = stepped(folding, [(2.1 + number, answer(fence, "FAILED"))])
    assert actions(told) == [("page", HOST)]
    again = of(stepped(folding, [(3.5, command("retry", opened(first), by="op"))]), "fence")
    assert (again.method, again.attempt) == ("bmc_off", 2)
    assert again.idempotency_key not in keys


def test_another_mode_ends_open_plans_and_asks_for_an_approval() -> None:
    folding = live()
    first = stepped(folding, ticking(DOWN, 2.0))
    changed = stepped(folding, [(2.1, command("set_mode", "enforce", by="op"))])
    assert actions(changed) == [("revoke", HOST), ("revoke", HOST)]
    approved = stepped(folding, [(2.2, command("approve", opened(first), by="op"))])
    assert actions(approved) == [("quarantine", HOST), ("fence", HOST)]
    assert of(approved, "fence").idempotency_key != of(first, "fence").idempotency_key


@pytest.mark.parametrize("name", ["approve", "reject", "retry"])
def test_a_word_about_no_incident_is_refused(name: str) -> None:
    assert reasons(stepped(live(), [(0.0, command(name, "nothing"))])) == ["command_has_no_object"]


def test_actions_of_one_effect_have_one_key_and_of_another_mode_another() -> None:
    first = of(stepped(live(), ticking(DOWN, 2.0)), "fence")
    again = of(stepped(live(), ticking([(0.0, event("x:1", "x")), *DOWN], 2.0)), "fence")
    dry = of(stepped(live(mode="dry_run"), ticking(DOWN, 2.0)), "fence")
    assert first.idempotency_key == again.idempotency_key
    assert first.idempotency_key != dry.idempotency_key
    assert first.incident_id != again.incident_id


def test_only_suspected_causes_destroy_nothing() -> None:
    fencing = policy(do=[{"fence": {}}], confidence=">= 0.1")
    rules = rule_set(policies=[fencing], named=0.999999)
    outputs = stepped(live(rules=rules, edges=cloud(hosts=2)), ticking(DOWN[:1], 6.0))
    assert actions(outputs) == []
    assert "only_suspected" in reasons(outputs)


def test_a_plan_for_an_incident_that_has_ended_meanwhile_is_over() -> None:
    clears: list[Row] = [(0.6, given.model_copy(update={"state": "cleared"})) for _, given in DOWN]
    outputs = stepped(live(rules=rule_set(settle="100ms")), ticking([*DOWN, *clears], 3.0))
    assert actions(outputs) == [("quarantine", HOST), ("unquarantine", HOST)]
    assert "hold" in reasons(outputs)


def boot(boot_id: str) -> Pulse:
    seq = int(boot_id[1:])
    return Pulse(collector="collector:r0h0", seq=seq, boot_id=boot_id, host=HOST)


def claim(supersedes: int | None) -> OwnerClaim:
    return OwnerClaim(owner="worker-2", supersedes=supersedes)


def test_a_new_owner_sends_what_is_still_waited_for_again_and_a_late_claim_does_nothing() -> None:
    folding = live()
    first = stepped(folding, ticking(DOWN, 2.0))
    quarantine, fence = of(first, "quarantine"), of(first, "fence")
    stepped(folding, [(2.1, answer(quarantine))])
    (again,) = stepped(folding, [(2.2, claim(None))])
    assert isinstance(again, Action)
    assert again.idempotency_key == fence.idempotency_key
    assert (again.epoch, fence.epoch) == (folding.state.epoch, 0)
    assert again.action_id != fence.action_id
    assert stepped(folding, [(2.3, claim(None))]) == []
    assert actions(stepped(folding, [(2.4, answer(again))])) == [("evacuate_vm", vm) for vm in VMS]


def test_what_is_sent_again_means_the_life_of_the_target_that_it_was_decided_for() -> None:
    folding = live()
    stepped(folding, [(0.0, boot("b1")), *ticking(DOWN, 4.0)])
    stepped(folding, [(4.1, boot("b2"))])
    again = of(stepped(folding, [(4.2, claim(None))]), "fence")
    assert again.target_generation == 0
    assert folding.state.generations[HOST] == 1
    assert ("boot_id", "b1") in [(one.fact, one.equals) for one in again.preconditions]


def test_a_new_owner_sends_nothing_that_is_no_longer_waited_for() -> None:
    folding = live()
    stepped(folding, ticking(DOWN, 2.0))
    stepped(folding, after(2.0, 70.0))
    late = stepped(folding, [(70.1, claim(None))])
    assert [verb for verb, _ in actions(late)] == ["page"]
