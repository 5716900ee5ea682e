"""`firstfault sla report`: a scenario in closed loop as a record, and records that are none."""

import json
import shutil
from pathlib import Path

import pytest

from correlator.corpus import play
from correlator.recorded import Recorder, Said
from correlator.rules import load_pack
from correlator.scenarios import load_corpus
from correlator.timeline import START_US
from schemas.base import from_microseconds
from schemas.outputs import Action, Decision, Incident
from tests.cli.conftest import Run
from tests.conftest import ROOT

PACK = """name: site
version: "1"
extends: [{base}]
topology_schema: {schema}
"""
SETTINGS = """kind: settings
name: gold
entities: vm:v2
sla: SAL1
---
kind: settings
name: bronze
entities: vm:v1
sla: SAL3
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of a site that gives two VMs a level."""
    folder = tmp_path_factory.mktemp("packs") / "site"
    folder.mkdir()
    base, schema = ROOT / "rules" / "nfvi", ROOT / "rules" / "topology-schema.yaml"
    text = PACK.format(base=base, schema=schema)
    (folder / "pack.yaml").write_text(text, encoding="utf-8")
    (folder / "settings.yaml").write_text(SETTINGS, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def record(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A host with two VMs loses its power, and actuators answer: a scenario of the corpus."""
    rules = load_pack(site)
    alone = tmp_path_factory.mktemp("corpus")
    corpus = ROOT / "tests" / "corpus"
    shutil.copy(corpus / "X16-priority-first.yaml", alone)
    (alone / "topology").symlink_to(corpus / "topology")
    scenario = load_corpus(alone, rules)[0]
    folder = tmp_path_factory.mktemp("records") / "out"
    with Recorder(folder, scenario.topology) as recorder:
        for told in play(scenario, rules).story:
            if isinstance(told.what, Incident | Decision | Action):
                log_at = from_microseconds(START_US + told.at_us)
                recorder.say(Said(offset=0, index=0, log_at=log_at, output=told.what))
        recorder.finish(rules, "X16", "pod-1")
    return folder


def test_each_level_is_held_to_its_budget(run: Run, record: Path, site: Path) -> None:
    figures = json.loads(run("sla report {} --rules {} --output json", record, site).stdout)
    gold, bronze = (figures["levels"][level] for level in ("SAL1", "SAL3"))
    assert gold["outages"] == bronze["outages"] == 1
    for row, budget_s in ((gold, 6.0), (bronze, 25.0)):
        assert row["recovery"]["count"] == 1
        assert 0 < row["detection"]["max_s"] < row["recovery"]["max_s"] < budget_s
        assert row["recovery"]["budget_s"] == budget_s
        assert row["recovery"]["within"] == 1.0
    text = run("sla report {} --rules {}", record, site).stdout
    assert f"{gold['recovery']['p95_s']:.3f}" in text
    assert "SAL1" in text
    assert "SAL2" not in text


def test_a_missed_budget_fails_a_check_and_a_pack_may_change_it(
    run: Run, record: Path, site: Path, tmp_path: Path
) -> None:
    pack = tmp_path / "loose"
    pack.mkdir()
    base = PACK.format(base=site, schema=ROOT / "rules" / "topology-schema.yaml")
    for budget, code in (("detection: 10s", 0), ("detection: 1ms", 1)):
        levels = "".join(
            f"  {level}: {{{budget}, recovery: 30s}}\n" for level in ("SAL1", "SAL2", "SAL3")
        )
        text = f"{base}service_levels:\n{levels}"
        (pack / "pack.yaml").write_text(text, encoding="utf-8")
        run("sla report {} --rules {} --check", record, pack, code=code)
        run("sla report {} --rules {}", record, pack)


def test_the_picture_is_drawn_the_same_each_time(
    run: Run, record: Path, site: Path, tmp_path: Path
) -> None:
    files = [tmp_path / "a" / "one.svg", tmp_path / "two.svg", tmp_path / "three.png"]
    for file in files:
        run("sla report {} --rules {} --plot {}", record, site, file)
    one, two, three = (file.read_bytes() for file in files)
    assert one == two
    assert one.startswith(b"<?xml")
    assert three.startswith(b"\x89PNG")


def test_other_rules_than_those_of_the_record_are_told(run: Run, record: Path, site: Path) -> None:
    assert "made under other rules" in run("sla report {} --rules nfvi", record).stderr
    assert "made under other rules" not in run("sla report {} --rules {}", record, site).stderr


def test_a_recording_with_no_workload_hit_says_so(run: Run, lag_flap: Path) -> None:
    told = run("sla report {} --check", lag_flap).stdout
    assert told.strip() == "no workload was hit"


def _copy(record: Path, to: Path) -> Path:
    to.mkdir()
    for file in record.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def test_what_is_no_whole_record_is_told_where(run: Run, record: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"{empty}: no outputs.jsonl there" in _told(run, empty)
    assert "no outputs.jsonl there" in _told(run, tmp_path / "nowhere")

    cut = _copy(record, tmp_path / "cut")
    outputs = cut / "outputs.jsonl"
    whole = outputs.read_bytes()
    count = whole.count(b"\n")
    outputs.write_bytes(whole[:-20])
    assert f"{outputs}:{count}: not an output of a replay" in _told(run, cut)
    outputs.write_bytes(b"".join(whole.splitlines(keepends=True)[:-3]))
    expected = f"{outputs}:{count - 3}: cut off, there should be {count} lines"
    assert expected in _told(run, cut)
    outputs.write_bytes(whole)
    (cut / "META.json").unlink()
    assert f"{cut}: not a whole record" in _told(run, cut)
    (cut / "META.json").write_text('{"counts":{"incident":"many"}}', encoding="utf-8")
    assert "cut off" in _told(run, cut)
    (cut / "META.json").write_text("{}", encoding="utf-8")
    assert "cut off" in _told(run, cut)


def _told(run: Run, folder: Path) -> str:
    return run("sla report {}", folder, code=2).output.replace("\n", "")


def test_a_picture_has_a_suffix_that_is_known(run: Run, record: Path, tmp_path: Path) -> None:
    told = run("sla report {} --plot {}", record, tmp_path / "x.pdf", code=2).output
    assert "the suffix must be one of .svg, .png" in told
