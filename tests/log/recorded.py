"""A log with all that can be in one, and what a fold of it says: for the tests of recordings."""

import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from correlator.frames import opened
from correlator.live import Fold
from correlator.replay import engine_for
from correlator.signing import Verifier
from firstfault.log import Message, Record
from firstfault.playback import open_playback, open_site
from schemas.base import canonical, document_of, from_microseconds, to_microseconds
from schemas.keys import KeySet
from schemas.outputs import DeadLetter
from tests.signed import OPERATOR, command, signed

TOPOLOGY = Path(__file__).parents[2] / "examples" / "rack-power" / "topology.json"
ONE, OTHER = "app:vm00001-a1", "app:vm00016-a2"
RULES = "nfvi"


def frame(sequence: int, *inputs: dict[str, Any], domain: str = "pod-1", boot: str = "b1") -> bytes:
    document = {
        "frame_id": f"collector:h1/{boot}/{sequence}",
        "domain": domain,
        "sent_at": from_microseconds(time.time_ns() // 1000),
        "inputs": inputs,
    }
    return json.dumps(document).encode()


def crash(app: str, **more: str) -> list[dict[str, Any]]:
    """Return what a dead application shows."""
    return [
        {"type": "event", "entity": app, "signal": name, "source": "collector:h1", **more}
        for name in ("app.hb.lost", "app.health.bad")
    ]


def everything() -> list[Message]:
    """Return messages good and bad: doubles, garbage, spooled inputs, another domain's, strange."""
    old = from_microseconds(time.time_ns() // 1000 - 60_000_000)
    hold = {"type": "command", "command": "hold", "target": "host:h001", "command_id": "c1"}
    twice = '{"type":"command","command":"hold","target":"a:b","target":"host:h002","by":"x:y"}'
    strange = (
        canonical(crash(ONE)[0])[:-1] + ',"attrs":{"n":1e999,"m":123456789012345678901234567890}}'
    )
    values = [
        frame(1, *crash(ONE)),
        b"garbage",
        frame(2, {"type": "what"}, *crash(OTHER, at=old)),
        frame(2, *crash("app:vm00031-a1")),  # A double, whatever is in it.
        frame(3, *crash("app:vm00046-a1"), domain="pod-2"),
        frame(3, hold, {"type": "tick"}),
        frame(4, {"type": "tick"}).replace(b'{"type": "tick"}', twice.encode()),
        frame(5, {"type": "tick"}).replace(b'{"type": "tick"}', strange.encode()),
        frame(6, {"type": "tick"}).replace(b'"inputs"', b'"v":2,"inputs"'),
        frame(7, *crash(OTHER, at=from_microseconds(time.time_ns() // 1000))),
        frame(
            8, {"type": "event", "entity": "app:ä-é", "signal": "x", "attrs": {"n": float("nan")}}
        ),
        frame(1, *crash("app:vm00061-a1"), boot="b2"),
        frame(2, {"type": "level", "source": "collector:h1/apps", "facts": []}, boot="b2"),
        frame(3, {"type": "tick"}, boot="b2"),
    ]
    return [Message("pod-1", value) for value in values]


def commands() -> list[Message]:
    """Return signed commands: a good one, a forged one, and one whose frame has two readings."""
    expires_at = datetime.fromtimestamp(time.time() + 3_600, UTC)
    good, forged, double = (
        document_of(signed(OPERATOR, command(command_id=name, expires_at=expires_at)))
        for name in ("c-good", "c-forged", "c-double")
    )
    forged["target"] = "domain:pod-2"
    values = [
        frame(1, good, boot="signed"),
        frame(2, forged, boot="signed"),
        frame(3, double, boot="signed").replace(b'"sent_at"', b'"sent_at": null, "sent_at"'),
    ]
    return [Message("pod-1", value) for value in values]


def ticks(count: int) -> list[Message]:
    """Return so many ticks of each domain, one after the other."""
    return [
        Message(domain, frame(number, {"type": "tick"}, domain=domain, boot="ticks"))
        for number in range(count)
        for domain in ("pod-1", "pod-2")
    ]


def folded(
    records: Iterable[Record], domain: str = "pod-1", verifier: Verifier | None = None
) -> list[str]:
    """Return what a live fold says of the records of a domain, dead letters aside."""
    rules, topology, _ = open_site(RULES, TOPOLOGY)
    found = list(records)
    fold = Fold(engine_for(topology, rules, domain, "recorded"), found[0].offset, verifier)
    told = []
    for record in found:
        given = opened(record.offset, record.log_us, record.value)
        if given.domain in ("", domain):
            told += fold.fold(record, given)
    return [
        f"{one.offset} {one.log_us} {canonical(document_of(one.output))}"
        for one in told
        if not isinstance(one.output, DeadLetter)
    ]


def replayed(recording: Path, *keys: KeySet) -> list[str]:
    """Return what a replay of a recording says, in the same form."""
    playback = open_playback(recording, rules=RULES, topology=TOPOLOGY)
    playback.keys = keys
    return [
        f"{one.offset} {to_microseconds(datetime.fromisoformat(one.log_at))} "
        f"{canonical(document_of(one.output))}"
        for one in playback.outputs()
    ]
