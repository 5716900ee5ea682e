"""What `firstfault replay` prints and records."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from correlator.recorded import Said, read_record
from tests.cli.conftest import EXAMPLES, Run

LAG = EXAMPLES / "lag-flap"
GOOD = (LAG / "events.jsonl").read_text(encoding="utf-8").splitlines()


def test_a_reader_gets_one_line_per_thing_that_happened(run: Run) -> None:
    told = run("replay {} --rules nfvi", LAG).stdout.splitlines()
    assert told[0] == "2026-11-23 (UTC)"
    words = [line.split()[1] for line in told[1:]]
    assert words[0] == "opened"
    assert words[-1] == "cleared"
    assert {"act", "opened", "cleared"} <= set(words) <= {
        "act", "cleared", "note", "opened", "refuse", "revised", "wait",
    }  # fmt: skip
    assert "link:h002/ens1f0" in told[1]


def test_a_program_gets_one_canonical_line_per_output(run: Run, lag_flap: Path) -> None:
    printed = run("replay {} --rules nfvi --output json", LAG).stdout
    assert printed == (lag_flap / "outputs.jsonl").read_text(encoding="utf-8")
    for line in printed.splitlines():
        assert Said.model_validate_json(line).line() == line


def test_a_record_is_whole_and_holds_no_label(run: Run, lag_flap: Path) -> None:
    names = sorted(path.name for path in lag_flap.iterdir())
    assert names == [
        "META.json", "alarms.json", "dead-letters.jsonl", "outputs.jsonl", "topology.json",
    ]  # fmt: skip
    record = read_record(lag_flap)
    assert record.meta["rules"]["name"] == "nfvi"
    assert record.meta["counts"]["inputs"] == len(GOOD)
    assert len(record.topology) == 259
    assert record.alarms["nic:h002/ens1f0"].signals["nic.carrier.down"] > 1


def test_the_same_log_gives_the_same_bytes_whatever_the_hash_seed(
    run: Run, tmp_path: Path, rack_power: Path
) -> None:
    folder = tmp_path / "again"
    command = f"replay {EXAMPLES}/rack-power --rules nfvi --quiet --record {folder}"
    code = "from firstfault.cli import main; main()"
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    subprocess.run([sys.executable, "-c", code, *command.split()], env=environment, check=True)  # noqa: S603  fixed words
    for file in sorted(rack_power.iterdir()):
        assert (folder / file.name).read_bytes() == file.read_bytes(), file.name


def test_what_cannot_be_read_stops_nothing(run: Run, tmp_path: Path) -> None:
    bad = [b"{", b"\xff\xfe", b'{"ts": NaN}', b'{"ts": 1.0}', b"x" * 1_000_000]
    log = tmp_path / "events.jsonl"
    log.write_bytes(b"\n".join([*bad, *(line.encode() for line in GOOD)]))
    out = tmp_path / "out"
    result = run("replay {} --record {}", tmp_path, out)
    assert "5 lines could not be read" in result.stderr
    told = (out / "dead-letters.jsonl").read_text(encoding="utf-8").splitlines()
    letters = list(map(json.loads, told))
    assert [letter["position"] for letter in letters] == [1, 2, 3, 4, 5]
    assert all(letter["reason"] for letter in letters)
    assert read_record(out).meta["counts"]["inputs"] == len(GOOD)


def test_a_log_may_be_compressed(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "lag.jsonl.gz"
    log.write_bytes(gzip.compress("\n".join(GOOD).encode()))
    result = run("replay {} --topology {} --rules nfvi", log, LAG / "topology.json")
    assert "link:h002/ens1f0" in result.stdout


def test_a_part_of_a_log_is_replayed(run: Run) -> None:
    every = run("replay {} --quiet", LAG).stderr
    assert f"{len(GOOD)} inputs" in every
    some = run("replay {} --quiet --from +5s --to 2026-11-23T10:00:20Z", LAG).stderr
    assert 0 < int(some.split()[0]) < len(GOOD)


def test_a_domain_may_be_named(run: Run) -> None:
    line = run("replay {} --output json --domain pod-7", LAG).stdout.splitlines()[0]
    assert json.loads(line)["output"]["domain"] == "pod-7"


def test_time_passes_as_fast_as_it_is_asked_to(run: Run) -> None:
    told = run("replay {} --rules nfvi --speed 100000", LAG).stdout
    assert told == run("replay {} --rules nfvi", LAG).stdout


@pytest.mark.parametrize(
    ("command", "told"),
    [
        pytest.param("replay nowhere", "nowhere: no such file", id="no log"),
        pytest.param("replay {} --rules nowhere", "no shipped pack (generic", id="no pack"),
        pytest.param("replay {} --topology nowhere", "nowhere: ", id="no topology"),
        pytest.param("replay {} --speed fast", "--speed fast: use a factor", id="no speed"),
        pytest.param("replay {} --speed -1", "use a factor above 0", id="backwards"),
        pytest.param("replay {} --from noon", "--from noon: use 2026", id="no time"),
        pytest.param("replay {} --to +5", "--to +5: use 2026", id="no unit"),
    ],
)
def test_input_that_cannot_be_used_is_told_in_a_sentence(run: Run, command: str, told: str) -> None:
    assert told in run(command, LAG, code=2).stderr


def test_a_pack_with_faults_is_refused_with_each_of_them(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pack.yaml").write_text("name: bad\nversion: 1.0.0\n", encoding="utf-8")
    (tmp_path / "rules.yaml").write_text("kind: nonsense\n---\nkind: policy\n", encoding="utf-8")
    told = run("replay {} --rules {}", LAG, tmp_path, code=2).stderr.splitlines()
    assert "rules.yaml:1:1: error [unknown-document]" in told[0]
    assert any("rules.yaml:3:1: error [missing-key]" in line for line in told)


def test_a_broken_topology_is_refused(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text("nodes: [", encoding="utf-8")
    assert str(file) in run("replay {} --topology {}", LAG, file, code=2).stderr


@pytest.mark.parametrize("command", ["replay {} --rules nfvi", "score {} --rules nfvi"])
def test_a_log_of_which_nothing_can_be_read_is_refused(
    run: Run, tmp_path: Path, command: str
) -> None:
    shutil.copytree(EXAMPLES / "lag-flap", tmp_path / "mine")
    events = tmp_path / "mine" / "events.jsonl"
    events.write_text("not JSON\nnor this\n", encoding="utf-8")
    told = run(command, tmp_path / "mine", code=2).stderr
    assert "2 lines could not be read" in told
    assert "not one line of it could be read" in told


def test_a_log_of_which_one_line_can_be_read_is_replayed(run: Run, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "lag-flap", tmp_path / "mine")
    events = tmp_path / "mine" / "events.jsonl"
    first = events.read_text(encoding="utf-8").splitlines()[0]
    events.write_text(f"not JSON\n{first}\n", encoding="utf-8")
    assert "1 lines could not be read" in run("replay {}", tmp_path / "mine").stderr
    events.write_text("", encoding="utf-8")
    assert "0 inputs" in run("replay {}", tmp_path / "mine").stderr


def test_a_cycle_is_cut_and_told(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "topology.yaml"
    edges = "edges: [{from: 'vm:a', to: 'vm:b'}, {from: 'vm:b', to: 'vm:a'}]\n"
    file.write_text(edges, encoding="utf-8")
    assert "cycle cut at" in run("replay {} --topology {}", LAG, file).stderr


def test_a_recording_is_never_written_over_by_its_record(run: Run, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "lag-flap", tmp_path / "mine")
    before = (tmp_path / "mine" / "topology.json").read_bytes()
    told = run("replay {} --record {}", tmp_path / "mine", tmp_path / "mine", code=2).stderr
    assert "record into another folder" in told
    assert (tmp_path / "mine" / "topology.json").read_bytes() == before


def test_a_missing_topology_is_told(run: Run, tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "lag-flap" / "events.jsonl", tmp_path)
    assert "no topology" in run("replay {}", tmp_path).stderr
