"""The loads of the measurements of speed: event lines in both formats, packs, topologies.

Called by the modules beside it. Nothing here is drawn by chance: the same call gives the same
bytes.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from correlator.recording import Recording, open_recording, read
from correlator.rules import RuleSet, load_pack
from correlator.topology import Topology, build
from schemas.base import from_microseconds

START_US = 1_795_428_000_000_000
STEP_US = 1_000
"""A thousand events a second: the pace of a storm, not of a quiet day."""
NOISE = "os.noise"
"""A signal that no rule listens to."""
VMS_PER_HOST = 20
APPS_PER_VM = 2


def entities(count: int) -> list[str]:
    """Return about so many entities: hosts, each with its 20 VMs and their 2 applications."""
    per_host = 1 + VMS_PER_HOST * (1 + APPS_PER_VM)
    hosts = max(1, round(count / per_host))
    return [name for host in range(hosts) for name in _of_host(host)]


def _of_host(host: int) -> Iterator[str]:
    yield f"host:h{host}"
    for vm in range(VMS_PER_HOST):
        yield f"vm:h{host}-v{vm}"
        for app in range(APPS_PER_VM):
            yield f"app:h{host}-v{vm}-a{app}"


def topology(names: list[str]) -> Topology:
    """Return the graph of what `entities` named."""
    edges = []
    for name in names:
        kind, _, rest = name.partition(":")
        if kind == "app":
            edges.append((name, "runs_on", f"vm:{rest.rpartition('-')[0]}"))
        elif kind == "vm":
            edges.append((name, "hosted_by", f"host:{rest.rpartition('-')[0]}"))
    return build([], edges)[0]


def wire_line(number: int, entity: str, signal: str) -> bytes:
    """Return one event as a line of a recorded log."""
    moment = from_microseconds(START_US + number * STEP_US)
    return _bytes(
        {
            "offset": number,
            "index": 0,
            "log_at": moment,
            "frame_id": f"collector:compute-3/7c1e/{number}",
            "input": {
                "type": "event",
                "event_id": f"e{number:015x}",
                "entity": entity,
                "signal": signal,
                "state": "raised",
                "severity": "major",
                "at": moment,
                "source": f"collector:{entity}",
                "attrs": {"admin": "up"},
            },
        }
    )


def imported_line(number: int, entity: str, signal: str) -> bytes:
    """Return one event as a line of a recording folder, without an id, as other tools write it."""
    kind, _, name = entity.partition(":")
    return _bytes(
        {
            "ts": (START_US + number * STEP_US) / 1e6,
            "entity": {"kind": kind, "id": name},
            "layer": signal.partition(".")[0],
            "type": signal,
            "state": "raised",
            "severity": "major",
            "attrs": {"admin": "up"},
        }
    )


def _bytes(document: dict[str, object]) -> bytes:
    return (json.dumps(document) + "\n").encode()


def wire_file(folder: Path, lines: list[bytes]) -> Recording:
    """Write lines as a recorded log."""
    header = _bytes({"firstfault": "recording", "v": 1, "ticks": "synthesised", "domain": "bench"})
    path = folder / "log.jsonl"
    path.write_bytes(header + b"".join(lines))
    return open_recording(path)


def imported_folder(folder: Path, lines: list[bytes]) -> Recording:
    """Write lines as a recording folder."""
    path = folder / "imported"
    path.mkdir()
    (path / "events.jsonl").write_bytes(b"".join(lines))
    return open_recording(path)


def decode_all(recording: Recording) -> None:
    """Decode a recording and keep nothing."""
    for _ in read(recording, refuse):
        pass


def refuse(letter: object) -> None:
    """Stop at a line that cannot be read: no load is meant to have one."""
    raise ValueError(str(letter))


def pack(folder: Path, rules: int) -> RuleSet:
    """Return a pack of so many symptoms with a signature each, all of different signals."""
    folder.mkdir()
    (folder / "pack.yaml").write_text('name: bench\nversion: 1.0.0\nsignals: {"*": {}}\n')
    (folder / "rules.yaml").write_text("---\n".join(_rule(number) for number in range(rules)))
    return load_pack(folder)


def _rule(number: int) -> str:
    return f"""\
kind: symptom
name: symptom-{number}
match: {{signal: signal.{number}}}
spurious: 1.0e-3
---
kind: signature
name: fault-{number}
root: host
prior: 1.0e-4
symptoms:
  - {{see: symptom-{number}, at: self,   p: 0.9, within: 5s}}
  - {{see: symptom-{number}, at: vm,     p: 0.8, within: 5s}}
  - {{see: symptom-{number}, at: vm.app, p: 0.7, within: 5s}}
"""
