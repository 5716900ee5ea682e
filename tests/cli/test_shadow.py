"""``firstfault shadow``: the rules in force differ in nothing, others in what they say."""

import shlex
import shutil
import time
from pathlib import Path

from firstfault.log.local import all_records
from firstfault.shadow import Sayings, compared
from schemas.outputs import Incident
from schemas.topics import ACTIONS, DECISIONS, INCIDENTS, LOCAL_FILE, LOG
from tests.cli.conftest import Run
from tests.cli.test_operate import APP, TOPOLOGY, correlator, crashed, printed
from tests.conftest import ROOT

GIVEN = f"--topology {shlex.quote(str(TOPOLOGY))}"
SETTLES_S = 1.5
"""After so long a tick has said how far everything is published."""


def test_other_rules_are_compared_with_what_was_published(run: Run, tmp_path: Path) -> None:
    site, other = tmp_path / "site", tmp_path / "other"
    with correlator(site):
        crashed(run, site)
        time.sleep(SETTLES_S)
    before = _sizes(site)
    same = printed(run, f"shadow --rules nfvi {GIVEN}", site)
    assert same["same"]
    assert same["records"] == before[LOG]
    assert run(f"shadow --rules nfvi {GIVEN} --local {{}}", site).stdout == "nothing differs\n"
    shutil.copytree(ROOT / "rules" / "nfvi", other)
    shutil.copy(ROOT / "rules" / "topology-schema.yaml", tmp_path)
    for file in other.glob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace("app-crash", "app-is-gone"), encoding="utf-8")
    pack = shlex.quote(str(other))
    found = printed(run, f"shadow --rules {pack} {GIVEN}", site, code=1)
    changed = [one for one in found["differences"] if one["what"] == "incident"]
    (text,) = [one["text"] for one in changed]
    assert text == f"open app-crash of {APP} → open app-is-gone of {APP}"
    told = run(f"shadow --rules generic {GIVEN} --local {{}}", site, code=1).stdout
    assert f"of {APP}" in told
    assert _sizes(site) == before


def _sizes(site: Path) -> dict[str, int]:
    """Return how many messages each topic holds: a shadow adds none."""
    topics = (LOG, INCIDENTS, DECISIONS, ACTIONS)
    return {topic: len(list(all_records(site / LOCAL_FILE, topic))) for topic in topics}


def incident(name: str, entity: str, state: str = "open", opened: str = "00:00:00") -> Incident:
    return Incident.model_validate(
        {
            "incident_id": name,
            "domain": "d",
            "update": 0,
            "state": state,
            "opened_at": f"2026-11-23T{opened}.000000Z",
            "updated_at": f"2026-11-23T{opened}.000000Z",
            "onset_at": f"2026-11-23T{opened}.000000Z",
            "confidence": 0.9,
            "margin": 1.0,
            "causes": [{"entity": entity, "signature": "s", "score": 1.0}],
            "evidence": [],
            "rules": "h",
            "rule": "r",
        }
    )


def sayings(*incidents: Incident) -> Sayings:
    told = Sayings()
    for one in incidents:
        told.add(one)
    return told


def test_incidents_pair_by_id_or_by_root_and_time() -> None:
    here = sayings(incident("a", "host:1"), incident("b", "host:2"), incident("c", "host:3"))
    there = sayings(
        incident("a", "host:1", state="suspected"),
        incident("x", "host:2", opened="00:00:30"),
        incident("y", "host:3", opened="00:02:00"),
    )
    found = [(one.sign, one.text) for one in compared(here, there)]
    assert found == [
        ("~", "open s of host:1 → suspected s of host:1"),
        ("-", "open s of host:3"),
        ("+", "open s of host:3"),
    ]
