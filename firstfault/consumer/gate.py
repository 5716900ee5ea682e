"""The gate that every action passes before it is carried out, and every result on its way back.

Joins what `duties.py` decides with what the `Ledger` remembers, and with the signatures. Used by
`ActionConsumer` and by the reference actuators alike. It does not read the log: its caller says
what came, when, and appends what `owed` tells.
"""

import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from correlator.signatures import Refused, Signer, signer_of, written
from firstfault.consumer.duties import Now, Outcome, Self, Turn, decide
from firstfault.consumer.ledger import Ledger
from schemas.base import canonical, document_of, first_fault
from schemas.inputs import Frame, Result
from schemas.keys import KeySet
from schemas.outputs import Action
from schemas.topics import LOG

ACTION_BYTES_MAX = 1_048_576
"""A longer message is no action; a broker refuses it too, unless told otherwise."""

KEYS_S = 5.0
"""How often the key set is read again: so long an action of a key that was taken back may count."""
KEYS_SOONEST_S = 1.0
"""At the soonest, where something is signed by a key that is not there."""

Facts = Mapping[str, Callable[[str], str]]
"""Fact of a precondition → function that says what it is of a target, e.g. vm_host → host:h3."""


@dataclass(frozen=True)
class Trust:
    """Who is believed, and how we sign."""

    keys: KeySet | None
    """Whose actions count; None: signatures are not looked at, for a site that has no keys."""
    private_key: Ed25519PrivateKey | None = None
    """Ours; None: results are not signed."""
    log_generation: str = "0"
    read_again: Callable[[], KeySet | None] | None = None
    """Reads the key set anew, None where it cannot be; none: it stays as it is while we run."""


class Believed:
    """The key set of those whose actions count, which follows its file.

    It is read again when something is signed by a key that is not there, and now and then, for a
    key that was taken back must not count for long. A file that cannot be read changes nothing.
    """

    def __init__(self, trust: Trust, clock: Callable[[], float] = time.monotonic) -> None:
        self.keys = trust.keys
        self._read_again, self._clock = trust.read_again, clock
        self._read_s = clock()

    def current(self) -> KeySet | None:
        """Return the key set, read again where that is due."""
        self._follow(KEYS_S)
        return self.keys

    def has_news(self) -> bool:
        """Claim that the file holds another set than before; asked of it once a second at most."""
        before = self.keys
        self._follow(KEYS_SOONEST_S)
        return self.keys is not before

    def _follow(self, after_s: float) -> None:
        if self._read_again is None or self._clock() - self._read_s < after_s:
            return
        self._read_s = self._clock()
        found = self._read_again()
        if found is not None and found != self.keys:
            self.keys = found


@dataclass
class Gate:
    """See the module; `verbs` are those that this consumer carries out."""

    ledger: Ledger
    me: Self
    trust: Trust
    verbs: Collection[str]
    facts: Facts = field(default_factory=dict)
    skew_us: int | None = None
    """How far our clock was ahead of the log's at our own last append."""
    running: set[str] = field(default_factory=set)
    """Idempotency keys that are being carried out now."""
    _sent: int = 0
    _boot: str = field(default_factory=lambda: f"{os.getpid()}-{time.time_ns()}")

    def __post_init__(self) -> None:
        """Believe whom the trust names, from now on."""
        self._believed = Believed(self.trust)

    # ---- in --------------------------------------------------------------------------------

    def read(self, value: bytes, stamp_us: int, partition: int = 0) -> Action:
        """Return the action of a message, if it is one of an owner that is believed.

        partition: of the topic of actions, where the message stood.

        Raises:
            Refused: it is not; it must have no effect, and gets no answer.
        """
        if len(value) > ACTION_BYTES_MAX:
            raise Refused("too_long", f"{len(value)} bytes, over {ACTION_BYTES_MAX}")
        document = written(value)
        try:
            action = Action.model_validate(document)
            canonical(document_of(action)).encode()
        except ValidationError as error:
            raise Refused("schema", first_fault(error, "action")) from None
        except (ValueError, RecursionError) as error:
            raise Refused("schema", f"action: it cannot be written again: {error}") from None
        _check_reply(action, partition)
        if self._believed.current() is None:
            return action
        try:
            self._check(document, action, stamp_us)
        except Refused:
            if not self._believed.has_news():
                raise
            self._check(document, action, stamp_us)
        return action

    def _check(self, document: Mapping[str, Any], action: Action, stamp_us: int) -> None:
        keys = self._believed.keys
        if keys is None:
            return
        key = signer_of(document, keys, action.domain, self.trust.log_generation, stamp_us)
        if "action" not in key.may:
            raise Refused("signature_not_allowed", f"{key.identity} may not send actions")

    def is_ours(self, action: Action) -> bool:
        """Claim that an action, or what it takes back, is for this consumer."""
        verb = action.parameters.get("verb") if action.verb == "revoke" else action.verb
        return verb in self.verbs

    def look(self, action: Action, now_us: int, stamp_us: int) -> Turn:
        """Return what is to be done about an action, as far as we remember; nothing is begun."""
        self.ledger.note(action, self.trust.log_generation)
        turn = self._decide(action, now_us, stamp_us, "")
        if action.verb == "revoke" and turn.do == "run":
            return Turn("answer", self._revoke(action))
        return turn

    def begin(self, action: Action, now_us: int, stamp_us: int) -> Turn:
        """Check all once more, with the preconditions; a turn to run is durable when it returns."""
        turn = self._decide(action, now_us, stamp_us, self._unmet(action))
        if turn.do == "run":
            self.ledger.begin(action, now_us)
            self.running.add(action.idempotency_key)
        return turn

    def _decide(self, action: Action, now_us: int, stamp_us: int, unmet: str) -> Turn:
        is_running = action.idempotency_key in self.running
        known = self.ledger.known(action, self.trust.log_generation, is_running=is_running)
        return decide(action, known, self.me, Now(now_us, stamp_us, self.skew_us), unmet)

    def _revoke(self, action: Action) -> Outcome:
        outcome = self.ledger.revoke(action)
        if outcome is None:
            return Outcome("FAILED", {"reason": "it has been begun"})
        if outcome.proof.get("reason") == "revoked":
            return Outcome("CONFIRMED", {"observed_state": "NOT_BEGUN"})
        return Outcome("FAILED", {"reason": f"it has ended {outcome.state}"})

    def _unmet(self, action: Action) -> str:
        """Return the first precondition that does not hold, in words; '' if all do.

        What nobody here can tell does not hold: to act in doubt is what they are there against.
        """
        for one in action.preconditions:
            if one.fact == "fence" and self.ledger.is_fenced(one.target, action.needs):
                continue
            tell = self.facts.get(one.fact)
            found = "nobody here can tell" if tell is None else tell(one.target)
            if found != one.equals:
                return f"{one.fact} of {one.target} is {one.equals} ({found})"
        return ""

    # ---- out -------------------------------------------------------------------------------

    def end(self, action: Action, outcome: Outcome) -> None:
        """Remember how an action ended, and owe its result."""
        with self.ledger.at_once():
            self.ledger.end(action, outcome)
            self.answer(action, outcome.state, outcome.proof)
        self.running.discard(action.idempotency_key)

    def answer(self, action: Action, state: str, proof: Mapping[str, object]) -> None:
        """Owe an answer to where the action says; one that says nowhere gets none."""
        if action.reply_to is None:
            return
        reply = action.reply_to
        value = self.message(action, state, proof)
        self.ledger.owe(reply.topic, reply.partition or 0, reply.key, value)

    def message(self, action: Action, state: str, proof: Mapping[str, object]) -> bytes:
        """Return a frame with one result of an action, signed, as it is to be appended."""
        frame = self._frame(action, self._result(action, state, proof))
        return canonical(document_of(frame)).encode()

    def _result(self, action: Action, state: str, proof: Mapping[str, object]) -> Result:
        result = Result(
            action_id=action.action_id,
            idempotency_key=action.idempotency_key,
            epoch_seen=action.epoch,
            actuator=self.me.name,
            verb=action.verb,
            state=state,  # type: ignore[arg-type]
            proof=dict(proof),
        )
        if self.trust.private_key is None:
            return result
        signer = Signer(self.trust.private_key, action.domain, self.trust.log_generation)
        return signer.signed(result)

    def _frame(self, action: Action, result: Result) -> Frame:
        self._sent += 1
        # ACCEPTED overtakes the answers that wait to be appended: were it of the same source, those
        # would come with lower numbers than it, and pass for doubles.
        source = f"{self.me.name}/accepted" if result.state == "ACCEPTED" else self.me.name
        return Frame(
            frame_id=f"{source}/{self._boot}/{self._sent}",
            domain=action.reply_to.key if action.reply_to else action.domain,
            sent_at=datetime.fromtimestamp(time.time(), UTC),
            inputs=[result],
        )


def _check_reply(action: Action, partition: int) -> None:
    """Make sure that the answer goes beside the action; one that can go nowhere waits for ever.

    Raises:
        Refused: it does not.
    """
    reply = action.reply_to
    if reply is None or (reply.topic, reply.partition or 0) == (LOG, partition):
        return
    where = f"{reply.topic[:100]}/{reply.partition or 0}"
    raise Refused("reply_to", f"its answers are to go to {where}, not to {LOG}/{partition}")
