"""Key sets: whose public keys are believed, and what each may say.

A file people write, named by the hash of its content like a rule set; a command of the log makes
another one active. The private keys are never in it.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from schemas.base import EntityId, Strict, Utc, digest
from schemas.inputs import CommandName
from schemas.outputs import Verb
from schemas.rules import Name

PUBLIC_KEY_BYTES = 32
"""Of an Ed25519 key (RFC 8032, section 5.1.5)."""
KEY_ID_DIGITS = 16

Saying = CommandName | Verb | Literal["owner_claim", "action", "topology", "verdict"]
"""A command, the verb of an action whose result is told, or another kind of message."""
COMMANDS: frozenset[str] = frozenset(get_args(CommandName))
VERBS: frozenset[str] = frozenset(get_args(Verb))
OWNERSHIP: frozenset[str] = frozenset({"owner_claim", "action"})
SAYINGS: tuple[str, ...] = (*sorted(COMMANDS | VERBS | OWNERSHIP), "topology", "verdict")


class KeyFileError(Exception):
    """A private key that cannot be used, said in one sentence."""


def key_id_of(public_key: bytes) -> str:
    """Return the name of a public key: it follows from the key, so neither can be mistaken.

    >>> key_id_of(bytes(32))
    '66687aadf862bd77'
    """
    return hashlib.sha256(public_key).hexdigest()[:KEY_ID_DIGITS]


def _is_public_key(text: str) -> str:
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        msg = f"not base64: {error}"
        raise ValueError(msg) from None
    if len(raw) != PUBLIC_KEY_BYTES or base64.b64encode(raw).decode() != text:
        msg = f"an Ed25519 public key has {PUBLIC_KEY_BYTES} bytes"
        raise ValueError(msg)
    return text


class Key(Strict):
    """A public key: whose it is, when it counts, and what it may say."""

    key_id: str = Field(description="first 16 digits of the public key's SHA-256")
    public_key: Annotated[str, AfterValidator(_is_public_key)] = Field(
        description="the 32 bytes of an Ed25519 key, base64"
    )
    identity: EntityId = Field(description="whose it is, e.g. operator:op-7")
    may: list[Saying] = Field(
        min_length=1,
        description="commands, verbs of results, owner_claim, action, topology, verdict",
    )
    not_before: Utc | None = Field(None, description="log time it counts from; none: always")
    not_after: Utc | None = Field(None, description="log time it counts until; none: for ever")

    @model_validator(mode="after")
    def _is_itself(self) -> "Key":
        if self.key_id != key_id_of(self.raw):
            msg = f"key_id: that public key is {key_id_of(self.raw)}"
            raise ValueError(msg)
        if self.not_before and self.not_after and self.not_after <= self.not_before:
            msg = "not_after is not after not_before"
            raise ValueError(msg)
        return self

    @property
    def raw(self) -> bytes:
        """The bytes of the public key."""
        return base64.b64decode(self.public_key)


class KeySet(Strict):
    """The keys that are believed together; ``hash`` names them.

    Who testifies what was done must not be the one who asks for it: an identity that may report
    results, and one that may own a log, may say nothing else.
    """

    name: Name = Field(description="e.g. pod-1")
    keys: list[Key] = Field(default_factory=list, description="no two alike")

    @model_validator(mode="after")
    def _keeps_duties_apart(self) -> "KeySet":
        ids = [key.key_id for key in self.keys]
        twice = sorted({one for one in ids if ids.count(one) > 1})
        if twice:
            msg = f"keys: {twice[0]} stands there twice"
            raise ValueError(msg)
        for identity in sorted({key.identity for key in self.keys}):
            _check_duties(identity, {one for key in self.of(identity) for one in key.may})
        return self

    def of(self, identity: str) -> Iterable[Key]:
        """Yield the keys of an identity."""
        return (key for key in self.keys if key.identity == identity)

    @cached_property
    def by_id(self) -> dict[str, Key]:
        """Its keys by their ids."""
        return {key.key_id: key for key in self.keys}

    @cached_property
    def hash(self) -> str:
        """The name of its content."""
        return digest(self.model_dump(mode="json"))


def _check_duties(identity: str, may: set[str]) -> None:
    for duty, what in ((VERBS, "report results"), (OWNERSHIP, "own a log")):
        if may & duty and may - duty:
            msg = f"keys: {identity} may {what}, so it may not say {sorted(may - duty)[0]}"
            raise ValueError(msg)


__all__ = [
    "COMMANDS",
    "KEY_ID_DIGITS",
    "OWNERSHIP",
    "SAYINGS",
    "VERBS",
    "Key",
    "KeyFileError",
    "KeySet",
    "Saying",
    "key_id_of",
]
