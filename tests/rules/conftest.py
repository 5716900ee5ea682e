"""Small packs written where a test needs them."""

from collections.abc import Callable
from pathlib import Path

import pytest

SCHEMA = """\
kinds: {host: {}, vm: {}, app: {}}
relations: {hosted_by: {}, runs_on: {}}
edges:
  - {from: vm, relation: hosted_by, to: host}
  - {from: app, relation: runs_on, to: vm}
"""
PACK = """\
name: small
version: 1.0.0
topology_schema: kinds.yaml
signals: {h.lost: {period: 2s}, v.lost: {}, a.lost: {}}
"""
RULES = """\
kind: signature
name: host-dead
root: host
prior: 1e-3
symptoms:
  - {see: h.lost, at: self, p: 0.9, within: 5s, spurious: 1e-4}
  - {see: v.lost, at: vm,   p: 0.9, within: 5s, spurious: 1e-3}
---
kind: policy
name: tell
cause: host-dead
do: [{notify: {}}]
"""
TESTS = """\
kind: test
rules: [host-dead]
topology: {h1: {v1: [a1], v2: []}, h2: {v3: []}}
cases:
  - name: a dead host
    events: |
      1s h.lost host:h1
      2s v.lost vm:v1 vm:v2
    expect: [{by: 30s, root: host:h1, signature: host-dead, confidence: ">= 0.9"}]
    never: [{root: host:h2}]
  - name: a host that is back
    events: |
      1s h.lost host:h1
      2s v.lost vm:v1 vm:v2
      30s clear h.lost host:h1
      30s clear v.lost vm:v1 vm:v2
    expect: [{by: 91s, root: host:h1, cleared: true}]
"""
WritePack = Callable[..., Path]


@pytest.fixture
def write_pack(tmp_path: Path) -> WritePack:
    """Return what writes a sound pack, with the parts given in place of its own."""

    def write(
        pack: str = PACK, rules: str = RULES, tests: str = TESTS, schema: str = SCHEMA
    ) -> Path:
        folder = tmp_path / "small"
        folder.mkdir()
        for name, text in (
            ("pack.yaml", pack),
            ("rules.yaml", rules),
            ("tests.yaml", tests),
            ("kinds.yaml", schema),
        ):
            (folder / name).write_text(text, encoding="utf-8")
        return folder

    return write
