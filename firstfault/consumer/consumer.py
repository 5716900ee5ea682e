"""``ActionConsumer``: functions of yours that carry out actions, called once for each.

All that an action is owed happens around the function: who sent it, whether it is still wanted,
whether it was done before, a signed result, also after a crash. See `duties.py` and `gate.py`.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Self, TypeVar

from correlator.keyfile import read_keys, read_private
from correlator.rules import RuleFaults
from correlator.signatures import Refused
from firstfault.consumer import duties
from firstfault.consumer.duties import ACCEPTED_VERBS, Outcome, Turn
from firstfault.consumer.gate import Gate, Trust
from firstfault.consumer.inlets import Came, Inlet, KafkaInlet, LogInlet
from firstfault.consumer.ledger import open_ledger
from firstfault.log import LogError, Message
from firstfault.log.local import open_local
from schemas.base import canonical
from schemas.inputs import Result
from schemas.kafka import KafkaSettings
from schemas.keys import KeySet
from schemas.outputs import Action
from schemas.topics import ACTIONS

POLL_S = 0.01
"""How long the loop waits for an action before it looks at what has ended."""
BUSY_POLL_S = 0.002
"""The same while something is carried out: its end is waited for."""
RETRY_S = 1.0
"""Pause before an append that failed is tried again."""
WORKERS_MAX = 16
"""Actions carried out at the same time; further ones wait in the log."""
FACT_S = 2.0
"""How long a function may take to tell a fact; then nobody can tell."""
PROOF_BYTES_MAX = 65_536
"""A longer proof is left out of the result: the log is no place for logs."""

log = logging.getLogger("firstfault.consumer")

Proof = Mapping[str, Any]
"""What was observed to be done; returned by a function, it says CONFIRMED."""
Carry = Callable[[Action], Proof | Outcome | None]
Tell = Callable[[str], str]
C = TypeVar("C", bound=Carry)
T = TypeVar("T", bound=Tell)


class _Stopped(Exception):  # noqa: N818 - control flow
    """`stop` was called before an action could be taken."""


@dataclass(frozen=True)
class _Run:
    """An action that is being carried out, and until when."""

    action: Action
    until_s: float
    """By the monotonic clock; then it is told to be TIMED_OUT, and stays at it."""


class ActionConsumer:
    """Carries out actions of a log by functions of yours.

    >>> import tempfile, pathlib
    >>> site = pathlib.Path(tempfile.mkdtemp())
    >>> consumer = ActionConsumer.local(site, name="actuator:mgmt-1", unsigned=True)
    >>> @consumer.on("notify")
    ... def notify(action: Action) -> Proof:
    ...     print(action.cause)
    ...     return {"told": "op-7"}
    >>> consumer.run(for_s=0.1)

    A function returns what it has observed, which says CONFIRMED, or an `Outcome`. What destroys is
    CONFIRMED only by an observation; an exception says UNKNOWN, since nobody knows what was done.
    Other consumers are asked for verbs that no function here is for.
    """

    def __init__(self, inlet: Inlet, gate: Gate) -> None:
        self._inlet = inlet
        self._gate = gate
        self._carries: dict[str, Carry] = {}
        self._asks: dict[str, Carry] = {}
        self._tells: dict[str, Tell] = {}
        gate.verbs, gate.facts = self._carries.keys(), self._tells
        self._runs: dict[str, _Run] = {}
        self._ended: SimpleQueue[tuple[Action, Outcome]] = SimpleQueue()
        self._stopping = threading.Event()
        self._retry_s = 0.0

    @classmethod
    def local(cls, folder: Path | str, **options: Any) -> Self:  # noqa: ANN401 - see `_gate`
        """Return a consumer of the log of a folder.

        Args:
            folder: that of ``firstfault run --local``.
            options: name, keys, private_key, ledger, stands_on, dry_run, unsigned, log_generation.

        Raises:
            LogError: the log or the ledger cannot be used.
        """
        folder = Path(folder)
        options.setdefault("ledger", folder / f"{_plain(options['name'])}.db")
        gate = _gate(**options)
        return cls(LogInlet(lambda: open_local(folder)), gate)

    @classmethod
    def kafka(cls, settings: KafkaSettings | str, **options: Any) -> Self:  # noqa: ANN401
        """Return a consumer of Kafka; options are those of `local`, and a ledger is needed.

        Args:
            settings: a bootstrap address, or all that it takes to reach the cluster.
            options: see `local`.

        Raises:
            LogError: the broker or the ledger cannot be reached.
        """
        if isinstance(settings, str):
            settings = KafkaSettings(bootstrap=settings)
        options.setdefault("ledger", Path(f"{_plain(options['name'])}.db"))
        gate = _gate(**options)
        return cls(KafkaInlet(settings), gate)

    # ---- what users say --------------------------------------------------------------------

    def on(self, verb: str) -> Callable[[C], C]:
        """Carry out a verb by the function below."""
        return _keep(self._carries, verb)

    def ask(self, verb: str) -> Callable[[C], C]:
        """Find out by the function below how an action ended that was begun before a crash.

        It must only look. With none, or where it returns None, the end stays UNKNOWN.
        """
        return _keep(self._asks, verb)

    def fact(self, name: str) -> Callable[[T], T]:
        """Tell a fact of a precondition by the function below, e.g. vm_host → host:h3.

        An action with a precondition whose fact nobody tells is refused.
        """

        def keep(tell: T) -> T:
            self._tells[name] = lambda target: _within(FACT_S, lambda: tell(target))
            return tell

        return keep

    def stop(self) -> None:
        """End `run` soon; may be called from any thread, or a handler of a signal."""
        self._stopping.set()

    def run(self, for_s: float | None = None) -> None:
        """Carry out actions until `stop`, or for so long.

        Raises:
            LogError: the log cannot be read on, or the ledger cannot be written. Nothing is lost:
                what was begun stands in the ledger, what was not is read again.
        """
        end_s = None if for_s is None else time.monotonic() + for_s
        try:
            self._gate.ledger.forget(_now_us())
            for action in self._gate.ledger.unended():
                self._find_out(action)
            self._inlet.open(ACTIONS, self._gate.ledger.place)
            while not self._stopping.is_set() and (end_s is None or time.monotonic() < end_s):
                self._once()
            self._settle()
        finally:
            self._inlet.close()
            self._gate.ledger.close()

    # ---- the loop --------------------------------------------------------------------------

    def _once(self) -> None:
        self._settle()
        if len(self._runs) >= WORKERS_MAX:
            time.sleep(POLL_S)
            return
        next_: dict[int, int] = {}
        for came in self._inlet.poll(BUSY_POLL_S if self._runs else POLL_S):
            while len(self._runs) >= WORKERS_MAX and not self._stopping.is_set():
                time.sleep(POLL_S)
                self._settle()
            try:
                self._take(came)
            except _Stopped:
                break  # It is read again: its place is not moved.
            next_[came.partition] = came.record.offset + 1
        if not next_:
            return
        with self._gate.ledger.at_once():
            for partition, offset in next_.items():
                self._gate.ledger.move(ACTIONS, partition, offset)

    def _take(self, came: Came) -> None:
        if self._stopping.is_set():
            raise _Stopped
        record = came.record
        try:
            action = self._gate.read(record.value, record.log_us, came.partition)
        except Refused as refused:
            place = f"{ACTIONS} {came.partition} offset {record.offset}"
            log.warning("%s: refused, %s [%s]", place, refused.reason, refused.code)
            return
        if self._gate.is_ours(action):
            self._do(action, self._turn(action, record.log_us))

    def _turn(self, action: Action, stamp_us: int) -> Turn:
        """Return what is to be done; to run, it is accepted and begun."""
        turn = self._gate.look(action, _now_us(), stamp_us)
        while turn.do == "run" and action.verb in ACCEPTED_VERBS and not self._accept(action):
            time.sleep(RETRY_S)
            if self._stopping.is_set():
                raise _Stopped
            turn = self._gate.look(action, _now_us(), stamp_us)  # By now it may have expired.
        return self._gate.begin(action, _now_us(), stamp_us) if turn.do == "run" else turn

    def _accept(self, action: Action) -> bool:
        """Answer that it is taken; the stamp of that says how right our clock is."""
        reply = action.reply_to
        if reply is None:
            return True
        message = Message(reply.key, self._gate.message(action, "ACCEPTED", {}))
        try:
            self._append(reply.topic, reply.partition or 0, message)
        except LogError as error:
            log.warning("%s: cannot be accepted yet: %s", action.idempotency_key, error)
            return False
        return True

    def _append(self, topic: str, partition: int, message: Message) -> None:
        """Append a message, and learn from its stamp how right our clock is."""
        before_us = _now_us()
        stamp_us = self._inlet.append(topic, partition, message)
        self._gate.skew_us = duties.skew(before_us, stamp_us, _now_us())

    def _do(self, action: Action, turn: Turn) -> None:
        if turn.do == "run":
            self._start(action, self._carries[action.verb])
        elif turn.do == "ask":
            self._find_out(action)
        elif turn.outcome is not None:
            self._gate.answer(action, turn.outcome.state, turn.outcome.proof)

    def _find_out(self, action: Action) -> None:
        """Ask how an action ended that was begun before; it is never carried out again."""
        self._gate.running.add(action.idempotency_key)
        self._start(action, self._asks.get(action.verb, _nobody_knows))

    def _start(self, action: Action, carry: Carry) -> None:
        until_s = time.monotonic() + (action.max_runtime_s or float("inf"))
        self._runs[action.idempotency_key] = _Run(action, until_s)

        def whole() -> None:
            self._ended.put((action, _outcome_of(action, carry)))

        # A thread that never ends must not keep the process from ending.
        threading.Thread(target=whole, name=f"{action.verb} {action.target}", daemon=True).start()

    def _settle(self) -> None:
        """Write down what has ended, tell what takes too long, and append what is owed."""
        with suppress(Empty):
            while True:
                action, outcome = self._ended.get_nowait()
                del self._runs[action.idempotency_key]
                self._gate.end(action, outcome)
        now_s = time.monotonic()
        for key, run in self._runs.items():
            if run.until_s < now_s:
                self._runs[key] = _Run(run.action, float("inf"))
                self._gate.answer(run.action, "TIMED_OUT", {"reason": "still at it"})
        if now_s >= self._retry_s:
            self._pay()

    def _pay(self) -> None:
        """Append what is owed, in order; what a crash appends twice says the same twice."""
        last = None
        for owed in self._gate.ledger.owed():
            try:
                self._append(owed.topic, owed.partition, Message(owed.key, owed.value))
            except LogError as error:
                log.warning("an answer waits: %s", error)
                self._retry_s = time.monotonic() + RETRY_S
                break
            last = owed
        if last is not None:
            self._gate.ledger.paid(last)


def _gate(  # noqa: PLR0913 - what a user says of a consumer
    *,
    name: str,
    ledger: Path | str,
    keys: Path | str | None = None,
    private_key: Path | str | None = None,
    stands_on: frozenset[str] | set[str] = frozenset(),
    dry_run: bool = False,
    unsigned: bool = False,
    log_generation: str = "0",
) -> Gate:
    """Return the gate of a consumer.

    Args:
        name: who signs the results, e.g. actuator:mgmt-1, as the key set names it.
        ledger: file of what must not be forgotten; each consumer has its own.
        keys: key set of those whose actions count.
        private_key: ours, PEM, to sign the results.
        stands_on: entities that we must never end, e.g. {"host:mgmt-1"}.
        dry_run: carry out nothing.
        unsigned: take actions of anybody, for a site that has no keys.
        log_generation: that of the log.
    """
    if keys is None and not unsigned:
        msg = "name the key set of those whose actions count (keys=…), or say unsigned=True"
        raise LogError(msg)
    file = Path(keys) if keys else None
    trust = Trust(
        read_keys(file) if file else None,
        read_private(Path(private_key)) if private_key else None,
        log_generation,
        partial(keys_again, file) if file else None,
    )
    _check_result(name)
    me = duties.Self(name, frozenset(stands_on), dry_run)
    return Gate(open_ledger(Path(ledger)), me, trust, ())


def keys_again(file: Path) -> KeySet | None:
    """Return the key set of a file that is read again; None, and a warning, where it cannot be."""
    try:
        return read_keys(file)
    except (RuleFaults, OSError) as error:
        log.warning("the key set stays as it was read before: %s", error)
        return None


def _check_result(name: str) -> None:
    """See to it that a result can be made in this name."""
    Result(action_id="", idempotency_key="", actuator=name, state="UNKNOWN")


def _plain(name: str) -> str:
    return "".join(one if one.isalnum() or one in "-." else "-" for one in name)


def _keep(kept: dict[str, Carry], verb: str) -> Callable[[C], C]:
    def keep(carry: C) -> C:
        kept[verb] = carry
        return carry

    return keep


def _now_us() -> int:
    return time.time_ns() // 1000


def _nobody_knows(_: Action) -> Outcome:
    return Outcome("UNKNOWN", {"reason": "it was begun, and nobody knows how it ended"})


def _within(limit_s: float, tell: Callable[[], str]) -> str:
    """Return what a function tells, in words where it does not, or not in time."""
    told: SimpleQueue[str] = SimpleQueue()

    def whole() -> None:
        try:
            told.put(str(tell()))
        except Exception as error:  # noqa: BLE001 - of a function that is not ours
            told.put(f"nobody can tell: {type(error).__name__}")

    threading.Thread(target=whole, daemon=True).start()
    try:
        return told.get(timeout=limit_s)
    except Empty:
        return f"not told within {limit_s:g} s"


def _outcome_of(action: Action, carry: Carry) -> Outcome:
    """Return how a function ended, in terms that can be written down."""
    try:
        returned = carry(action)
    except Exception as error:
        log.exception("%s %s", action.verb, action.target)
        return Outcome("UNKNOWN", {"reason": f"{type(error).__name__}: {error}"[:500]})
    if isinstance(returned, Outcome):
        return Outcome(returned.state, _written(returned.proof))
    if isinstance(returned, Mapping):
        return Outcome("CONFIRMED", _written(returned))
    if returned is None and action.verb not in ACCEPTED_VERBS:
        return Outcome("CONFIRMED")
    return Outcome("UNKNOWN", {"reason": f"no proof, but {type(returned).__name__}"})


def _written(proof: Proof) -> Proof:
    """Return a proof that fits into a result, or why it does not."""
    try:
        size_bytes = len(canonical(dict(proof)).encode())
    except (TypeError, ValueError, RecursionError) as error:
        return {"reason": f"the proof is no JSON: {error}"[:500]}
    if size_bytes > PROOF_BYTES_MAX:
        return {"reason": f"the proof has {size_bytes} bytes, over {PROOF_BYTES_MAX}"}
    return proof
