"""Keys in files: key sets in YAML with located errors, private keys as PEM for our eyes only."""

import json
import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from correlator.rules.ruleset import RuleFaults
from correlator.rules.yamlfile import read_one
from schemas.keys import Key, KeyFileError, KeySet

KEYS_FILE = "keys.yaml"
EMPTY = "name: keys\nkeys: []\n"
PRIVATE_MODE = 0o600
OTHERS = 0o077


def read_keys(file: Path, shown: str | None = None) -> KeySet:
    """Return the key set of a file, under the name that its faults are to be told with.

    Raises:
        RuleFaults: with every fault of it, located.
    """
    return read_one(KeySet, file, "a key set", shown)


def read_private(file: Path) -> Ed25519PrivateKey:
    """Return the private key of a PEM file.

    Raises:
        KeyFileError: it is none of ours, or others may read it.
    """
    if file.stat().st_mode & OTHERS:
        msg = f"{file}: others may read it; chmod 600 first, or better make a new key"
        raise KeyFileError(msg)
    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        msg = f"{file}: not a private key in PEM without a password"
        raise KeyFileError(msg) from None
    if not isinstance(key, Ed25519PrivateKey):
        msg = f"{file}: not an Ed25519 key"
        raise KeyFileError(msg)
    return key


def write_private(file: Path, key: Ed25519PrivateKey) -> None:
    """Write a private key to a new file that only its owner may read."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    # Made with its mode, never opened up for a moment; and no key is ever written over.
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_MODE)
    with os.fdopen(handle, "wb") as stream:
        stream.write(pem)


def add_key(file: Path, key: Key) -> KeySet:
    """Add a key to the key set of a file, which is made if there is none; return the set.

    The comments of a file are kept: the entry is written to its end, where its list must be.

    Raises:
        RuleFaults: the file is no key set, or would be none with the entry.
    """
    text = file.read_text(encoding="utf-8") if file.exists() else EMPTY
    if text.rstrip().endswith("keys: []"):
        text = text.rstrip().removesuffix(" []")
    draft = file.with_name(f"{file.name}.new")
    draft.write_text(f"{text.rstrip()}\n{_entry(key)}", encoding="utf-8")
    try:
        keys = read_keys(draft, str(file))
    except RuleFaults:
        draft.unlink()
        raise
    draft.replace(file)
    return keys


def _entry(key: Key) -> str:
    lines = [
        f"- key_id: {json.dumps(key.key_id)}",  # In quotes: digits alone would be a number.
        f"  public_key: {key.public_key}",
        f"  identity: {json.dumps(key.identity)}",
        f"  may: [{', '.join(key.may)}]",
    ]
    for name in ("not_before", "not_after"):
        moment = getattr(key, name)
        lines += [f"  {name}: {json.dumps(moment.isoformat())}"] if moment else []
    return "\n".join(lines) + "\n"
