"""`ActionConsumer` on a local log: what a user's functions see, and what the log gets back."""

import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from correlator.signatures import signer_of
from firstfault import Action, ActionConsumer, Outcome, Proof
from firstfault.consumer.consumer import keys_again
from firstfault.consumer.inlets import LogInlet
from firstfault.log import LogError, Message
from schemas.base import document_of, from_microseconds
from tests.consumer.stories import action, python_path, results, send, signed, site
from tests.signed import ACTUATOR, DOMAIN, OPERATOR, key_set

PROGRAM = Path(__file__).parent / "program.py"
PATIENCE_S = 60.0


def consumer(folder: Path) -> ActionConsumer:
    return ActionConsumer.local(
        folder, name=ACTUATOR, keys=folder / "keys.yaml", private_key=folder / "actuator.pem"
    )


def until(folder: Path, found: ActionConsumer, count: int) -> list[str]:
    """Run a consumer until so many results are in the log; return their states."""

    def watch() -> None:
        end_s = time.monotonic() + PATIENCE_S
        while len(results(folder)) < count and time.monotonic() < end_s:
            time.sleep(0.02)
        found.stop()

    watcher = threading.Thread(target=watch)
    watcher.start()
    found.run()
    watcher.join()
    return [one.state for one in results(folder)]


def test_a_function_is_called_once_and_its_proof_comes_back_signed(tmp_path: Path) -> None:
    site(tmp_path)
    called: list[str] = []

    def restart(given: Action) -> Proof:
        called.append(given.target)
        return {"observed_state": "RUNNING"}

    given = signed(action("k1"))
    for count, values in ((1, [given]), (3, [given, signed(action("k1", epoch=9))])):
        send(tmp_path, values)
        found = consumer(tmp_path)
        found.on("restart_process")(restart)
        assert set(until(tmp_path, found, count)) == {"CONFIRMED"}
    assert called == ["app:k1"]
    first, *_, last = results(tmp_path)
    assert first.proof == last.proof == {"observed_state": "RUNNING"}
    assert last.action_id == action("k1", epoch=9).action_id
    key = signer_of(document_of(last), key_set(), DOMAIN, "0", time.time_ns() // 1000)
    assert key.identity == ACTUATOR


def test_what_destroys_is_accepted_first_and_needs_a_proof(tmp_path: Path) -> None:
    site(tmp_path)
    found = consumer(tmp_path)
    found.on("fence")(lambda given: None)
    send(tmp_path, [signed(action("k1", verb="fence", target="host:h1", fence_token=1))])
    assert until(tmp_path, found, 2) == ["ACCEPTED", "UNKNOWN"]


ENDS = [
    pytest.param({"told": "op-7"}, "CONFIRMED", id="a proof"),
    pytest.param(None, "CONFIRMED", id="nothing, of what destroys nothing"),
    pytest.param(Outcome("FAILED", {"reason": "no"}), "FAILED", id="an outcome"),
    pytest.param(42, "UNKNOWN", id="something else"),
    pytest.param(ValueError("broken"), "UNKNOWN", id="an exception"),
    pytest.param({"told": object()}, "CONFIRMED", id="a proof that is no JSON"),
]


@pytest.mark.parametrize(("end", "state"), ENDS)
def test_every_end_of_a_function_has_its_state(tmp_path: Path, end: object, state: str) -> None:
    site(tmp_path)
    found = consumer(tmp_path)

    @found.on("notify")
    def notify(given: Action) -> Proof:
        if isinstance(end, Exception):
            raise end
        return end  # type: ignore[return-value]

    send(tmp_path, [signed(action("k1", verb="notify"))])
    assert until(tmp_path, found, 1) == [state]


def test_what_takes_too_long_is_timed_out_and_told_when_it_has_ended(tmp_path: Path) -> None:
    site(tmp_path)
    found = consumer(tmp_path)

    @found.on("restart_process")
    def restart(given: Action) -> Proof:
        time.sleep(0.3)
        return {"observed_state": "RUNNING"}

    send(tmp_path, [signed(action("k1", max_runtime_s=0.05))])
    assert until(tmp_path, found, 2) == ["TIMED_OUT", "CONFIRMED"]


def test_nobody_who_may_not_and_nothing_that_is_late_has_an_effect(tmp_path: Path) -> None:
    site(tmp_path)
    called: list[str] = []
    found = consumer(tmp_path)
    found.on("notify")(lambda given: called.append(given.idempotency_key))
    long_ago, just_now = (
        from_microseconds(time.time_ns() // 1000 - seconds * 1_000_000) for seconds in (600, 1)
    )
    send(
        tmp_path,
        [
            signed(action("foreign", verb="notify"), by=OPERATOR),
            b"garbage",
            b"{}",
            b"\xff" * 1_000_000,
            signed(action("forgotten", verb="notify", expires_at=long_ago)),
            signed(action("late", verb="notify", expires_at=just_now)),
            signed(action("new", verb="notify", epoch=9)),
            signed(action("old", verb="notify", epoch=8)),
            signed(action("dry", verb="notify", epoch=9, mode="dry_run")),
            signed(action("not ours", verb="page", epoch=9)),
            signed(action("last", verb="notify", epoch=9)),
        ],
    )
    until(tmp_path, found, 5)
    assert sorted(called) == ["last", "new"]
    told = {one.idempotency_key: one.proof.get("reason") for one in results(tmp_path)}
    refused = {"late": "expired", "old": "stale_epoch", "dry": "dry_run"}
    assert told == {**refused, "new": None, "last": None}


def test_a_precondition_is_asked_of_a_function(tmp_path: Path) -> None:
    site(tmp_path)
    found = consumer(tmp_path)
    found.on("notify")(lambda given: None)
    found.fact("vm_host")(lambda target: "host:h4")
    check = [{"fact": "vm_host", "target": "vm:v1", "equals": "host:h3"}]
    send(tmp_path, [signed(action("k1", verb="notify", preconditions=check))])
    assert until(tmp_path, found, 1) == ["REJECTED"]
    assert results(tmp_path)[0].proof["precondition"] == "vm_host of vm:v1 is host:h3 (host:h4)"


def test_it_may_run_in_another_thread_than_it_was_made_in(tmp_path: Path) -> None:
    site(tmp_path)
    found = consumer(tmp_path)
    found.on("notify")(lambda given: None)
    send(tmp_path, [signed(action("k1", verb="notify"))])
    thread = threading.Thread(target=until, args=(tmp_path, found, 1))
    thread.start()
    thread.join(PATIENCE_S)
    assert [one.state for one in results(tmp_path)] == ["CONFIRMED"]


class Deaf(LogInlet):
    """A log that can be read, and takes nothing."""

    def append(self, topic: str, partition: int, message: Message) -> int:
        raise LogError(f"{topic} takes nothing now")


def test_what_cannot_be_accepted_does_not_run_and_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site(tmp_path)
    called: list[str] = []

    def fence(given: Action) -> Proof:
        called.append(given.target)
        return {"observed_state": "OFF"}

    send(tmp_path, [signed(action("k1", verb="fence", target="host:h1", fence_token=1))])
    with monkeypatch.context() as deaf:
        deaf.setattr("firstfault.consumer.consumer.LogInlet", Deaf)
        found = consumer(tmp_path)
    found.on("fence")(fence)
    threading.Timer(0.5, found.stop).start()
    found.run()
    assert called == []
    found = consumer(tmp_path)
    found.on("fence")(fence)
    assert until(tmp_path, found, 2) == ["ACCEPTED", "CONFIRMED"]
    assert called == ["host:h1"]


def test_without_keys_one_must_say_so(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="unsigned=True"):
        ActionConsumer.local(tmp_path, name=ACTUATOR)


def test_a_place_that_is_no_longer_kept_ends_it_with_a_sentence(tmp_path: Path) -> None:
    site(tmp_path)
    send(tmp_path, [signed(action("k1"))])
    first = consumer(tmp_path)
    first._gate.ledger.move("firstfault.actions.v1", 0, 99)  # noqa: SLF001
    with pytest.raises(LogError, match="offset 99 is not kept"):
        first.run(for_s=PATIENCE_S)


# ---- kill -9 -------------------------------------------------------------------------------

KILLS = 6
KEYS = 120


def test_at_most_one_effect_of_a_key_whatever_kills_repeats_and_reorders(tmp_path: Path) -> None:
    site(tmp_path)
    effects = tmp_path / "effects.txt"
    effects.touch()
    rng = random.Random(7)
    verbs = ("restart_process", "quarantine")
    good = [action(f"k{n}", verb=verbs[n % 2], epoch=5 + n // 40) for n in range(KEYS)]
    values = [signed(one) for one in good for _ in range(2)]
    for start in range(0, len(values), 8):  # Repeats come near, and in another order.
        part = values[start : start + 8]
        rng.shuffle(part)
        values[start : start + 8] = part
    foreign = [signed(action(f"f{n}"), by=OPERATOR) for n in range(10)]
    for one in foreign:
        values.insert(rng.randrange(len(values)), one)
    for _ in range(KILLS):
        share, values = values[: len(values) // 2], values[len(values) // 2 :]
        send(tmp_path, share)
        _killed(tmp_path, effects, rng.uniform(0.05, 0.4))
    send(tmp_path, values)
    done = _to_the_end(tmp_path, effects, {one.idempotency_key for one in good})
    counts = Counter(effects.read_text().split())
    assert set(counts.values()) == {1}
    assert not [key for key in counts if key.startswith("f")]
    for key, states in done.items():
        assert "CONFIRMED" not in states or counts[key] == 1
        if states <= {"REJECTED", "FAILED"}:
            assert counts[key] == 0


def _process(folder: Path, effects: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, str(PROGRAM), str(folder), str(effects)]
    return subprocess.Popen(command, env=python_path())  # noqa: S603 - a program of ours


def _killed(folder: Path, effects: Path, after_s: float) -> None:
    """Kill a consumer at a moment in which it has begun to act."""
    before = len(effects.read_text())
    process = _process(folder, effects)
    end_s = time.monotonic() + PATIENCE_S
    while len(effects.read_text()) == before and time.monotonic() < end_s:
        assert process.poll() is None
        time.sleep(0.005)
    time.sleep(after_s)
    process.kill()
    process.wait()


def _to_the_end(folder: Path, effects: Path, keys: set[str]) -> dict[str, set[str]]:
    """Run a consumer until every key has its answer; return the states told of each."""
    process = _process(folder, effects)
    end_s = time.monotonic() + PATIENCE_S
    try:
        while True:
            told: dict[str, set[str]] = {}
            for one in results(folder):
                told.setdefault(one.idempotency_key, set()).add(one.state)
            if keys <= told.keys():
                return told
            assert time.monotonic() < end_s, sorted(keys - told.keys())
            time.sleep(0.1)
    finally:
        process.kill()
        process.wait()


def test_who_signs_by_a_new_key_is_believed_once_the_key_set_has_it(tmp_path: Path) -> None:
    folder = site(tmp_path)
    file = folder / "keys.yaml"
    old = file.read_text(encoding="utf-8")
    file.write_text("name: keys\nkeys: []\n", encoding="utf-8")
    found = consumer(tmp_path)
    found.on("notify")(lambda given: {"told": "op-7"})
    assert keys_again(tmp_path / "gone.yaml") is None

    def keep_sending() -> None:
        for number in range(10):
            time.sleep(0.2)
            file.write_text(old if number else "keys: [", encoding="utf-8")
            send(tmp_path, [signed(action(f"k{number}", verb="notify"))])

    sending = threading.Thread(target=keep_sending)
    sending.start()
    assert set(until(tmp_path, found, 1)) == {"CONFIRMED"}
    sending.join()
