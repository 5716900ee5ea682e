"""Keys and signed recordings, made in code, for tests of signatures."""

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from correlator.engine import Stamped
from correlator.recording import line_of, open_recording, read
from correlator.signatures import Signer
from correlator.signing import Verifier
from schemas.base import canonical
from schemas.inputs import SIGNED, Command, Input, OwnerClaim, Result, TopologyDelta, Verdict
from schemas.keys import Key, KeySet, key_id_of
from schemas.outputs import DeadLetter
from tests.worlds import SECOND_US, START_US, at

DOMAIN = "pod-1"
OPERATOR = "operator:op-7"
ADMIN = "operator:op-1"
ACTUATOR = "actuator:mgmt-1"
WORKER = "correlator:worker-1"
COLLECTOR = "collector:compute-3"
REGION = "region:north"
MAY: dict[str, list[str]] = {
    OPERATOR: ["maintenance_start", "maintenance_end", "hold", "release"],
    ADMIN: ["activate_keys", "set_mode"],
    ACTUATOR: ["fence", "unfence"],
    WORKER: ["owner_claim", "action"],
    COLLECTOR: ["topology"],
    REGION: ["verdict"],
}


def private(identity: str, version: int = 0) -> Ed25519PrivateKey:
    """Return a private key of an identity: always the same one."""
    seed = f"{identity}/{version}".encode().ljust(32, b".")
    return Ed25519PrivateKey.from_private_bytes(seed[:32])


def key(identity: str, version: int = 0, **more: Any) -> Key:  # noqa: ANN401 - fields of a key
    """Return the public key of an identity."""
    raw = private(identity, version).public_key().public_bytes_raw()
    public = base64.b64encode(raw).decode()
    given = {"may": MAY[identity], **more, "identity": identity}
    return Key.model_validate({**given, "key_id": key_id_of(raw), "public_key": public})


def key_set(*keys: Key, name: str = "first") -> KeySet:
    """Return a key set; of nothing else, one key of each identity."""
    return KeySet(name=name, keys=list(keys) or [key(identity) for identity in MAY])


def signer(identity: str, version: int = 0, domain: str = DOMAIN, generation: str = "0") -> Signer:
    """Return what signs for an identity."""
    return Signer(private(identity, version), domain, generation)


def signed(
    identity: str, given: Input, version: int = 0, domain: str = DOMAIN, generation: str = "0"
) -> Input:
    """Return an input with the signature of an identity."""
    assert isinstance(given, SIGNED)
    made: Input = signer(identity, version, domain, generation).signed(given)  # type: ignore[type-var]
    return made


def command(name: str = "hold", by: str = OPERATOR, **more: Any) -> Command:  # noqa: ANN401
    """Return a command that could be signed, good for a minute."""
    given = {"target": "domain:pod-1", "command_id": f"{name}-1", "expires_at": at(60), **more}
    return Command.model_validate({"command": name, "by": by, **given})


def result(verb: str = "fence", actuator: str = ACTUATOR) -> Result:
    """Return a result that could be signed."""
    proof = {"method": "bmc_off", "observed_state": "OFF"}
    return Result(
        action_id="a", idempotency_key="k", actuator=actuator, state="CONFIRMED", verb=verb,
        proof=proof,
    )  # fmt: skip


def edit(
    source: str = f"{COLLECTOR}/libvirt",
    to: str = "host:h1",
    second: float = 0,
    vm: str = "vm:v1",
) -> TopologyDelta:
    """Return an edit of the topology that could be signed."""
    given = {"op": "move_edge", "from": vm, "to": to, "relation": "hosted_by"}
    return TopologyDelta.model_validate({**given, "source": source, "at": at(second)})


def verdict(second: float = 0) -> Verdict:
    """Return a verdict that could be signed, good for half a minute."""
    return Verdict(resource="link:wan", state="failed", at=at(second), expires_at=at(second + 30))


def claim() -> OwnerClaim:
    """Return the first claim of a log."""
    return OwnerClaim(owner="worker-1", supersedes=None)


def line(given: Input, second: float = 0, offset: int = 0) -> bytes:
    """Return an input as a line of a recording."""
    return line_of(Stamped(offset, 0, START_US + round(second * SECOND_US), given)).encode()


def checked(
    folder: Path, lines: Iterable[bytes], keys: Sequence[KeySet] = (), **header: str
) -> tuple[list[Stamped], list[DeadLetter]]:
    """Return what is believed of a recording, and the letters of the rest."""
    head = {"firstfault": "recording", "v": 1, "ticks": "recorded", "domain": DOMAIN, **header}
    file = folder / "log.jsonl"
    file.write_bytes(b"\n".join([canonical(head).encode(), *lines]) + b"\n")
    recording = open_recording(file)
    known = keys or [key_set()]
    found = recording.header
    verifier = Verifier.from_start(found.domain, found.log_generation, known)
    letters: list[DeadLetter] = []
    believed = list(read(recording, letters.append, check=verifier.refusal))
    return believed, letters
