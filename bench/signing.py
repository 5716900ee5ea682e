"""What a signature costs: signing, and reading signed commands with and without a check of them."""

import base64
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench import load
from bench.clock import Figures, beside_json
from correlator.engine import Stamped
from correlator.recording import Check, line_of, open_recording, read
from correlator.signatures import Signer
from correlator.signing import Verifier
from schemas.base import canonical, document_of, to_microseconds
from schemas.inputs import Command
from schemas.keys import Key, KeySet, key_id_of

COMMANDS = 2_000
KEYS = 1_000
"""A key for each host's collector of a large domain; the one asked for is among them."""
START = datetime(2026, 11, 23, 10, tzinfo=UTC)


def _key(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))


def _entry(number: int) -> Key:
    raw = _key(number).public_key().public_bytes_raw()
    return Key(
        key_id=key_id_of(raw),
        public_key=base64.b64encode(raw).decode(),
        identity=f"operator:{number}",
        may=["maintenance_start"],
    )


def _command(number: int) -> Command:
    return Command(
        command="maintenance_start",
        target=f"host:h{number}",
        by="operator:1",
        reason="DIMM swap",
        command_id=f"c-{number}",
        until=START + timedelta(hours=1),
        expires_at=START + timedelta(minutes=1),
    )


def signing() -> Figures:
    """Return signatures made a second, and signed commands read a second, checked and not."""
    signer = Signer(_key(1), "bench")
    keys = KeySet(name="bench", keys=[_entry(number + 1) for number in range(KEYS)])
    commands = [_command(number) for number in range(COMMANDS)]
    documents = [document_of(one) for one in commands]
    start_us = to_microseconds(START)
    # Each 40 ms a command: what has expired is forgotten on the way, as in a live log.
    lines = [
        line_of(Stamped(n, 0, start_us + n * 40_000, _late(signer, one, n))).encode() + b"\n"
        for n, one in enumerate(commands)
    ]
    header = canonical({"firstfault": "recording", "ticks": "recorded", "domain": "bench"})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "log.jsonl")
        file.write_bytes(header.encode() + b"\n" + b"".join(lines))

        def checked() -> None:
            _read(file, Verifier.from_start("bench", "0", [keys]).refusal)

        runs: dict[str, Callable[[], object]] = {
            "sign": lambda: [signer.signature(one) for one in documents],
            "decode": lambda: _read(file, None),
            "decode_verify": checked,
        }
        figures = beside_json(runs, lines)
    more_us = figures["decode_verify"]["us_per_event"] - figures["decode"]["us_per_event"]
    return {**figures, "keys": KEYS, "verify_us_per_signed_input": round(more_us, 3)}


def _late(signer: Signer, command: Command, number: int) -> Command:
    expires_at = START + timedelta(minutes=1, milliseconds=40 * number)
    return signer.signed(command.model_copy(update={"expires_at": expires_at}))


def _read(file: Path, check: Check | None) -> None:
    believed = sum(1 for _ in read(open_recording(file), load.refuse, check=check))
    if believed != COMMANDS:
        msg = f"{believed} of {COMMANDS} commands were believed"
        raise ValueError(msg)
