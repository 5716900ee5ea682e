"""Which inputs of a log are believed: checked by shells before `Engine.step`.

What a `Verifier` believes follows from the inputs so far alone, the active key set included, so
live and replay agree. It reads no file and no clock.
"""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from correlator.engine import Stamped
from correlator.signatures import Refused, signer_of, written
from schemas.base import to_microseconds
from schemas.inputs import SIGNED, Command, Input, OwnerClaim, Result, TopologyDelta, Verdict
from schemas.keys import Key, KeySet

COMMAND_LIFETIME_US = 86_400_000_000
"""A command may be good for a day at most: until then its id is kept, to know a repeat."""


def lacks(given: Input) -> str:
    """Return what a message needs to be signed at all; '' if nothing.

    Without these an old message could be sent again, or nobody could tell who may send it.
    """
    if isinstance(given, Command) and not (given.command_id and given.expires_at):
        return "a signed command needs a command_id and an expires_at"
    if isinstance(given, Result) and not given.verb:
        return "a signed result needs the verb of its action"
    if isinstance(given, TopologyDelta) and not given.at:
        return "a signed edit of the topology needs its time, at"
    if isinstance(given, Verdict) and not (given.at and given.expires_at):
        return "a signed verdict needs its time, at, and an expires_at"
    return ""


def _claimed(given: Input) -> tuple[str, str | None]:
    """Return (what it says, who it says it is from; None where it names nobody)."""
    if isinstance(given, Command):
        return given.command, given.by
    if isinstance(given, Result):
        return given.verb, given.actuator
    if isinstance(given, OwnerClaim):
        return "owner_claim", f"correlator:{given.owner}"
    if isinstance(given, TopologyDelta):
        return "topology", given.source or ""
    return "verdict", None


def _check_author(key: Key, given: Input) -> None:
    saying, author = _claimed(given)
    if saying not in key.may:
        raise Refused("signature_not_allowed", f"{key.identity} may not say {saying[:64]}")
    is_own = author in (key.identity, None)
    is_part = saying == "topology" and str(author).startswith(f"{key.identity}/")
    if not is_own and not is_part:
        text = f"{key.identity} signed what says it is from {str(author)[:64] or 'nobody'}"
        raise Refused("signature_not_allowed", text)


# ---- what the log has said so far ----------------------------------------------------------


@dataclass
class Believed:
    """All that a verifier remembers: plain values, so that a snapshot can hold them."""

    domain: str
    log_generation: str
    keys: str
    """Hash of the active key set."""
    is_lost: bool = False
    """A key set was made active that is not here: nothing is believed until another one is."""
    log_us: int = 0
    commands: dict[str, int] = field(default_factory=dict)
    """command_id → when it expires, log time; those that have expired are forgotten."""
    expiries: list[list[Any]] = field(default_factory=list)
    """The same as a heap of [when it expires, command_id]."""
    latest_us: dict[str, int] = field(default_factory=dict)
    """key, source and entity → when it was last spoken of, by the source's clock."""


class Verifier:
    """Says of each input, in the order of the log, whether it is believed."""

    def __init__(self, believed: Believed, library: Iterable[KeySet]) -> None:
        self.believed = believed
        self._library = {keys.hash: keys for keys in library}
        if believed.keys not in self._library:
            msg = f"the active key set {believed.keys} is not among those given"
            raise ValueError(msg)

    @classmethod
    def from_start(cls, domain: str, log_generation: str, library: Iterable[KeySet]) -> Self:
        """Return the verifier of a log from its first input on; the first key set is active."""
        known = list(library)
        return cls(Believed(domain, log_generation, known[0].hash), known)

    def document(self) -> dict[str, Any]:
        """Return what it remembers as JSON; `Believed(**document)` is the inverse."""
        return asdict(self.believed)

    def refusal(self, record: Stamped, line: bytes) -> tuple[str, str] | None:
        """Return why an input of a recording is not believed, as (code, reason); None if it is.

        Args:
            record: the input as it was read.
            line: the same as it was written, for the signature covers that.
        """
        self.advance(record.log_us)
        if not isinstance(record.input, SIGNED):
            return None
        try:
            self.believe(record.input, written_input(line))
        except Refused as refused:
            return refused.code, refused.reason
        return None

    def advance(self, log_us: int) -> None:
        """Go on to a time of the log; it never goes back, so no key comes to life again."""
        state = self.believed
        state.log_us = max(state.log_us, log_us)
        while state.expiries and state.expiries[0][0] < state.log_us:
            del state.commands[heapq.heappop(state.expiries)[1]]

    def believe(self, given: Input, document: Mapping[str, Any]) -> None:
        """Take in a signed input and the same as it was written.

        Raises:
            Refused: it is not to be folded.
        """
        state = self.believed
        keys = self._library[state.keys]
        key = signer_of(document, keys, state.domain, state.log_generation, state.log_us)
        _check_author(key, given)
        lacking = lacks(given)
        if lacking:
            raise Refused("signature_replayable", lacking)
        if isinstance(given, Command):
            self._take_command(given)
        elif state.is_lost:
            raise Refused("keys_unknown", "the key set that is active now is not here")
        elif isinstance(given, TopologyDelta | Verdict):
            self._take_latest(key, given)

    def _take_command(self, command: Command) -> None:
        state = self.believed
        if state.is_lost and command.command != "activate_keys":
            raise Refused("keys_unknown", "the key set that is active now is not here")
        command_id, expires_us = str(command.command_id), _us(command.expires_at)
        if expires_us < state.log_us:
            return  # The engine refuses it, and says so; it changes nothing here.
        if command_id in state.commands:
            raise Refused("signature_replayed", f"command {command_id[:64]} was given before")
        if expires_us > state.log_us + COMMAND_LIFETIME_US:
            raise Refused("signature_replayable", "a signed command is good for a day at most")
        state.commands[command_id] = expires_us
        heapq.heappush(state.expiries, [expires_us, command_id])
        if command.command == "activate_keys":
            self._activate(command.target.removeprefix("keys:"))

    def _activate(self, name: str) -> None:
        """Check signatures by another key set; by none where it is not here.

        To go on under the old one would believe keys that were taken back. Only another activation,
        signed under the old set, ends that.
        """
        state = self.believed
        state.is_lost = name not in self._library
        if state.is_lost:
            raise Refused("keys_unknown", f"no key set {name[:64]} here: nothing is believed now")
        state.keys = name

    def _take_latest(self, key: Key, given: TopologyDelta | Verdict) -> None:
        state = self.believed
        if isinstance(given, Verdict) and _us(given.expires_at) < state.log_us:
            raise Refused("signature_expired", "the verdict is no longer good")
        said, asked = _subjects(given)
        at_us = _us(given.at)
        for subject in asked:
            if at_us < state.latest_us.get(f"{key.key_id} {subject}", at_us):
                text = f"its source has said something later of {subject[:64]} already"
                raise Refused("signature_replayed", text)
        for subject in said:
            name = f"{key.key_id} {subject}"
            state.latest_us[name] = max(at_us, state.latest_us.get(name, at_us))


def _subjects(given: TopologyDelta | Verdict) -> tuple[list[str], list[str]]:
    """Return (what it speaks of, what must not have been spoken of later), of one source.

    Each entity for itself, since a spool is sent behind what is live and is older. An edge must not
    bring back a node that was removed since.
    """
    if isinstance(given, Verdict):
        return [given.resource], [given.resource]
    about = f"{given.source} {given.node or given.from_}"
    if given.op == "remove_node":
        return [about, f"{given.source} without {given.node}"], [about]
    return [about], [about, f"{given.source} without {given.to}"]


def _us(moment: Any) -> int:  # noqa: ANN401 - `lacks` has seen that it is there
    return to_microseconds(moment)


def written_input(line: bytes) -> Mapping[str, Any]:
    """Return the input of a line of a recording as it was written.

    Raises:
        Refused: two readers could take the line for two different messages.
    """
    document = written(line).get("input")
    return document if isinstance(document, dict) else {}
