"""Ed25519 signatures on messages: made and checked here, by whoever sends and whoever reads.

A signature covers the canonical JSON of a message without its signature, together with domain and
log generation, so it counts nowhere else. What follows from it is for others to say: `signing.py`
for the inputs of a log, `firstfault/consumer` for actions. It reads no file and no clock.
"""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from schemas.base import canonical, document_of, to_microseconds
from schemas.inputs import Command, OwnerClaim, Result, TopologyDelta, Verdict
from schemas.keys import Key, KeySet, key_id_of
from schemas.outputs import Action

_PURPOSE = "firstfault.signature.v1"
_SIGNATURE = re.compile(r"([0-9a-f]{16}):([A-Za-z0-9+/]{86}==)")

M = TypeVar("M", OwnerClaim, Verdict, TopologyDelta, Command, Result, Action)


class Refused(Exception):  # noqa: N818 - control flow, and an answer
    """Why a message is not believed: an enumerated code, and a sentence."""

    def __init__(self, code: str, reason: str) -> None:
        self.code, self.reason = code, reason
        super().__init__(reason)


def signed_bytes(document: Mapping[str, Any], domain: str, log_generation: str) -> bytes:
    """Return the bytes that a signature of a message covers.

    >>> signed_bytes({"type": "command", "by": "operator:1", "signature": "…"}, "pod-1", "0")
    b'["firstfault.signature.v1","pod-1","0",{"by":"operator:1","type":"command"}]'

    Raises:
        ValueError: the message has no canonical form, e.g. a number that is not finite.
    """
    content = {name: value for name, value in document.items() if name != "signature"}
    return canonical([_PURPOSE, domain, log_generation, content]).encode()


# ---- signing -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Signer:
    """Signs for one domain and generation of its log."""

    private_key: Ed25519PrivateKey
    domain: str
    log_generation: str = "0"

    def signature(self, document: Mapping[str, Any]) -> str:
        """Return the signature of a message as it will be written: ``KEYID:base64``."""
        raw = self.private_key.sign(signed_bytes(document, self.domain, self.log_generation))
        return f"{public_id(self.private_key)}:{base64.b64encode(raw).decode()}"

    def signed(self, message: M) -> M:
        """Return the message with a signature; it must be written as `document_of` says."""
        return message.model_copy(update={"signature": self.signature(document_of(message))})


def public_id(private_key: Ed25519PrivateKey) -> str:
    """Return the id of the public key that belongs to a private one."""
    return key_id_of(private_key.public_key().public_bytes_raw())


# ---- checking ------------------------------------------------------------------------------


def signer_of(
    document: Mapping[str, Any], keys: KeySet, domain: str, log_generation: str, at_us: int
) -> Key:
    """Return the key that signed a message, as it was received.

    Raises:
        Refused: there is no signature, or it does not count here and now.
    """
    text = document.get("signature")
    if not text:
        raise Refused("signature_missing", "it is not signed")
    found = _SIGNATURE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise Refused("signature_bad", "a signature is written KEYID:base64, of 64 bytes")
    key_id = found[1]
    key = keys.by_id.get(key_id)
    if key is None:
        raise Refused("signature_unknown_key", f"{keys.name} has no key {key_id}")
    _verify(key, found[2], document, domain, log_generation)
    _check_time(key, at_us)
    return key


def _verify(
    key: Key, text: str, document: Mapping[str, Any], domain: str, log_generation: str
) -> None:
    raw = base64.b64decode(text)
    if base64.b64encode(raw).decode() != text:  # Unused bits of the last digit are set.
        raise Refused("signature_bad", "its base64 is not the one text of its bytes")
    try:
        covered = signed_bytes(document, domain, log_generation)
        Ed25519PublicKey.from_public_bytes(key.raw).verify(raw, covered)
    except (InvalidSignature, ValueError, RecursionError):
        text = f"not what {key.identity} signed for {domain}, generation {log_generation}"
        raise Refused("signature_bad", text) from None


def _check_time(key: Key, at_us: int) -> None:
    if key.not_before and at_us < to_microseconds(key.not_before):
        text = f"the key of {key.identity} counts from {key.not_before.isoformat()}"
        raise Refused("signature_expired", text)
    if key.not_after and at_us > to_microseconds(key.not_after):
        text = f"the key of {key.identity} counted until {key.not_after.isoformat()}"
        raise Refused("signature_expired", text)


# ---- as it was written ----------------------------------------------------------------------


def written(text: str | bytes) -> Mapping[str, Any]:
    """Return the JSON object of a text, of which there is but one reading.

    Raises:
        Refused: it is no such text; e.g. where a key stands twice, readers differ on its value.
    """
    try:
        document = json.loads(text, object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError) as error:
        raise Refused("signature_bad", f"no one reading of it: {error}") from None
    return document if isinstance(document, dict) else {}


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "a key stands twice in one object"
        raise ValueError(msg)
    return found
