"""What tests of consumers share: a site with keys, actions as its owner signs them, its results."""

import asyncio
import base64
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from correlator.keyfile import add_key, write_private
from firstfault.log import Message
from firstfault.log.local import all_records, open_local
from schemas.base import canonical, digest, document_of, from_microseconds
from schemas.inputs import Frame, Result
from schemas.keys import Key
from schemas.outputs import Action
from schemas.topics import ACTIONS, LOCAL_FILE, LOG
from tests.signed import ACTUATOR, DOMAIN, WORKER, private, signer

MAY = {ACTUATOR: ["notify", "restart_process", "quarantine", "fence"], WORKER: ["action"]}


def site(folder: Path) -> Path:
    """Make a folder with a key set and the private key of its actuator."""
    folder.mkdir(parents=True, exist_ok=True)
    for identity, may in MAY.items():
        raw = private(identity).public_key().public_bytes_raw()
        entry = {"key_id": "", "public_key": base64.b64encode(raw).decode(), "may": may}
        entry["key_id"] = _key_id(raw)
        add_key(folder / "keys.yaml", Key.model_validate({**entry, "identity": identity}))
    write_private(folder / "actuator.pem", private(ACTUATOR))
    return folder


def _key_id(raw: bytes) -> str:
    from schemas.keys import key_id_of  # noqa: PLC0415

    return key_id_of(raw)


def action(key: str, **more: Any) -> Action:  # noqa: ANN401 - fields of an action
    """Return an action that is good for a minute from now."""
    epoch = int(more.get("epoch", 7))
    now_us = time.time_ns() // 1000
    given = {
        "action_id": digest(key, epoch),
        "idempotency_key": key,
        "verb": "restart_process",
        "target": f"app:{key}",
        "target_generation": 0,
        "domain": DOMAIN,
        "epoch": epoch,
        "incident_id": "i1",
        "cause": "app-crash of app:a",
        "policy": "p",
        "step": 1,
        "mode": "enforce",
        "max_runtime_s": 30.0,
        "expires_at": from_microseconds(now_us + 60_000_000),
        "reply_to": {"key": DOMAIN},
    }
    return Action.model_validate({**given, **more})


def signed(given: Action, by: str = WORKER) -> bytes:
    """Return an action as it stands on its topic."""
    return canonical(document_of(signer(by).signed(given))).encode()


def send(folder: Path, values: Sequence[bytes]) -> None:
    """Append messages to the topic of actions."""

    async def whole() -> None:
        log = open_local(folder)
        for value in values:
            await log.append(ACTIONS, [Message("k", value)])
        await log.close()

    asyncio.run(whole())


def results(folder: Path) -> list[Result]:
    """Return every result in the log of a folder, in order."""
    found = []
    for record in all_records(folder / LOCAL_FILE, LOG):
        frame = Frame.model_validate(orjson.loads(record.value))
        found += [one for one in frame.inputs if isinstance(one, Result)]
    return found


def python_path() -> dict[str, str]:
    """Return the environment in which a process of ours finds the tests."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def send_inputs(folder: Path, domain: str, inputs: Sequence[dict[str, Any]]) -> None:
    """Append a frame of inputs to a log."""
    now_us = time.time_ns() // 1000
    frame = {
        "frame_id": f"collector:h1/b1/{now_us}",
        "domain": domain,
        "sent_at": from_microseconds(now_us),
        "inputs": list(inputs),
    }

    async def whole() -> None:
        log = open_local(folder)
        await log.append(LOG, [Message(domain, canonical(frame).encode())])
        await log.close()

    asyncio.run(whole())
