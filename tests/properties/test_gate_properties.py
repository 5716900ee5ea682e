"""Whatever comes, in any order, through crashes: what a consumer does to the world."""

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from correlator.signatures import Refused
from firstfault.consumer.duties import Outcome, Self
from firstfault.consumer.gate import Gate, Trust
from firstfault.consumer.ledger import open_ledger
from schemas.base import canonical, document_of, from_microseconds
from schemas.outputs import Action
from tests.signed import ACTUATOR, DOMAIN, OPERATOR, WORKER, key_set, private, signer

NOW_US = 1_795_000_000_000_000
KEYS = st.sampled_from(["k1", "k2", "k3", "k4"])
TARGETS = {"k1": "host:a", "k2": "host:a", "k3": "host:b", "k4": "host:b"}
TOKENS = {"k1": 1, "k2": 2, "k3": 1, "k4": 2}


class Consumer(RuleBasedStateMachine):
    """A gate that is killed and opened again, between any two steps of its."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.now_us = NOW_US
        self.effects: list[Action] = []
        self.at_it: dict[str, Action] = {}
        """What runs in the process that lives."""
        self.highest_epoch = 0
        self.highest_token: dict[str, int] = {}
        self.open()

    def open(self) -> None:
        ledger = open_ledger(Path(self.folder.name) / "ledger.db")
        trust = Trust(key_set(), private(ACTUATOR))
        self.gate = Gate(ledger, Self(ACTUATOR), trust, {"fence"}, {})

    def teardown(self) -> None:
        self.gate.ledger.close()
        self.folder.cleanup()

    def action(self, key: str, epoch: int, **more: Any) -> Action:  # noqa: ANN401
        given = {
            "action_id": f"{key}/{epoch}",
            "idempotency_key": key,
            "verb": "fence",
            "target": TARGETS[key],
            "target_generation": 1,
            "domain": DOMAIN,
            "epoch": epoch,
            "fence_token": TOKENS[key],
            "incident_id": "i1",
            "policy": "p",
            "step": 1,
            "mode": "enforce",
            "max_runtime_s": 30.0,
            "expires_at": from_microseconds(NOW_US + 60_000_000),
            "reply_to": {"key": DOMAIN},
        }
        return Action.model_validate({**given, **more})

    @rule(key=KEYS, epoch=st.integers(1, 4), by=st.sampled_from([WORKER, WORKER, OPERATOR]))
    def arrives(self, key: str, epoch: int, by: str) -> None:
        value = canonical(document_of(signer(by).signed(self.action(key, epoch)))).encode()
        try:
            action = self.gate.read(value, self.now_us)
        except Refused:
            assert by == OPERATOR
            return
        assert by == WORKER
        turn = self.gate.look(action, self.now_us, self.now_us)
        if turn.do == "run":
            turn = self.gate.begin(action, self.now_us, self.now_us)
        if turn.do == "run":
            assert epoch >= self.highest_epoch
            assert TOKENS[key] >= self.highest_token.get(action.target, 0)
            assert self.now_us <= NOW_US + 60_000_000
            self.effects.append(action)
            self.at_it[key] = action
        self.highest_epoch = max(self.highest_epoch, epoch)
        before = self.highest_token.get(action.target, 0)
        self.highest_token[action.target] = max(before, TOKENS[key])

    @rule(key=KEYS, state=st.sampled_from(["CONFIRMED", "FAILED", "UNKNOWN"]))
    def ends(self, key: str, state: Any) -> None:  # noqa: ANN401 - one of these
        action = self.at_it.pop(key, None)
        if action is not None:
            self.gate.end(action, Outcome(state))

    @rule()
    def is_killed_and_comes_back(self) -> None:
        self.gate.ledger.close()
        self.at_it.clear()
        self.open()
        for action in self.gate.ledger.unended():
            self.gate.end(action, Outcome("UNKNOWN"))

    @rule(key=KEYS, epoch=st.integers(1, 4))
    def is_revoked(self, key: str, epoch: int) -> None:
        word = self.action(key, epoch, verb="revoke", idempotency_key=f"r/{key}/{epoch}")
        word = word.model_copy(update={"parameters": {"revokes": key, "verb": "fence"}})
        turn = self.gate.look(word, self.now_us, self.now_us)
        self.highest_epoch = max(self.highest_epoch, epoch)
        self.highest_token[word.target] = max(
            self.highest_token.get(word.target, 0), word.fence_token
        )
        if turn.outcome is not None and turn.outcome.state == "CONFIRMED":
            assert key not in [one.idempotency_key for one in self.effects]

    @rule(seconds=st.integers(1, 40))
    def time_goes_on(self, seconds: int) -> None:
        self.now_us += seconds * 1_000_000

    @invariant()
    def no_key_has_two_effects(self) -> None:
        keys = [one.idempotency_key for one in self.effects]
        assert len(keys) == len(set(keys))

    @invariant()
    def no_target_has_two_at_a_time(self) -> None:
        targets = [one.target for one in self.at_it.values()]
        assert len(targets) == len(set(targets))


TestConsumer = Consumer.TestCase
TestConsumer.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
