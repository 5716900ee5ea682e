"""What `firstfault graph` draws."""

from pathlib import Path
from xml.etree import ElementTree as ET

import networkx as nx
import pytest

from correlator.recorded import read_record
from correlator.topology import build
from correlator.view import NODES_MAX, Scene, around, columns, left_out_text, whole
from schemas.outputs import Cause, Evidence, Incident
from tests.cli.conftest import EXAMPLES, Run

TOPOLOGY = EXAMPLES / "lag-flap" / "topology.json"


def test_an_incident_becomes_a_picture_with_its_names_in_it(
    run: Run, lag_flap: Path, tmp_path: Path
) -> None:
    files = [tmp_path / name for name in ("a.svg", "b.svg", "c.png")]
    for file in files:
        assert "entities" in run("graph {} --to {}", lag_flap, file).stderr
    assert files[0].read_bytes() == files[1].read_bytes()
    assert "link:h002/ens1f0" in files[0].read_text(encoding="utf-8")
    assert files[2].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("suffix", ["dot", "graphml", "mmd"])
def test_a_whole_topology_becomes_a_file(run: Run, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"all.{suffix}"
    run("graph --topology {} --to {}", TOPOLOGY, file)
    assert "switch:sw-r1-a" in file.read_text(encoding="utf-8")
    if suffix == "graphml":
        graph = nx.read_graphml(file)
        assert len(graph) == 259
        assert graph.edges["link:h002/ens1f0", "switch_port:sw-r1-a/02"]["relation"]


@pytest.mark.parametrize(
    ("command", "told"),
    [
        pytest.param("graph --topology {} --to x.jpeg", "must be one of .svg", id="no such form"),
        pytest.param("graph --to x.dot", "name a record folder, or", id="nothing to draw"),
        pytest.param("graph --topology nowhere --to x.dot", "nowhere: ", id="no topology"),
    ],
)
def test_what_cannot_be_drawn_is_told(run: Run, command: str, told: str) -> None:
    assert told in run(command, TOPOLOGY, code=2).stderr


def test_a_topology_too_large_for_a_picture_is_told(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    nodes = "".join(f"  - {{id: 'vm:{number}'}}\n" for number in range(401))
    file.write_text(f"nodes:\n{nodes}", encoding="utf-8")
    told = run("graph --topology {} --to {}", file, tmp_path / "x.png", code=2).stderr
    assert "401 entities make no picture" in told


def _incident(evidence: list[Evidence]) -> Incident:
    return Incident(
        incident_id="1", domain="d", update=0, state="open", opened_at="", updated_at="",
        onset_at="", confidence=0.9, margin=2.2, rules="", rule="", evidence=evidence,
        causes=[Cause(entity="host:h", signature="s", score=3.0)],
    )  # fmt: skip


def test_a_picture_is_bounded_and_says_what_it_leaves_out() -> None:
    vms = [f"vm:{number:03}" for number in range(100)]
    topology, _ = build([], [(vm, "hosted_by", "host:h") for vm in vms])
    evidence = [Evidence(symptom="vm.lost", entity=vm, role="for", weight=1.0) for vm in vms]
    scene = around(topology, _incident(evidence), "title")
    assert len(scene.graph) == NODES_MAX
    assert scene.role("host:h") == "cause"
    assert scene.role("vm:000") == "for"
    assert left_out_text(scene) == "not shown, with symptoms: 41 vm"


def test_entities_between_cause_and_symptom_are_shown() -> None:
    chain = [("vm:v", "hosted_by", "host:h"), ("app:a", "runs_on", "vm:v")]
    topology, _ = build([], chain)
    evidence = [Evidence(symptom="app.lost", entity="app:a", role="for", weight=1.0)]
    scene = around(topology, _incident(evidence), "title")
    assert columns(scene.carrying) == [["host:h"], ["vm:v"], ["app:a"]]
    assert [scene.role(node) for node in ("vm:v", "app:a")] == ["quiet", "for"]


def test_a_cause_outside_the_topology_is_still_shown() -> None:
    topology, _ = build([("vm:v", None)], [])
    assert list(around(topology, _incident([]), "title").graph) == ["host:h"]


def test_edges_that_carry_no_failure_make_no_cycle_in_a_picture(tmp_path: Path) -> None:
    edges = [("vm:a", "standby_of", "vm:b"), ("vm:b", "standby_of", "vm:a")]
    scene: Scene = whole(build([], edges)[0])
    assert scene.graph.number_of_edges() == 2
    assert columns(scene.carrying) == [["vm:a", "vm:b"]]


def test_every_symptom_of_the_record_has_a_role_or_is_counted(rack_power: Path) -> None:
    record = read_record(rack_power)
    (said,) = record.incidents().values()
    scene = around(record.topology, said[0], "title", record.alarms)
    roles = {scene.role(node) for node in scene.graph}
    assert {"cause", "for", "missing"} <= roles
    assert sum(scene.left_out.values()) > 0


def test_an_svg_is_well_formed(run: Run, rack_power: Path, tmp_path: Path) -> None:
    run("graph {} last --to {}", rack_power, tmp_path / "a.svg")
    root = ET.parse(tmp_path / "a.svg").getroot()  # noqa: S314  our own file
    assert root.tag.endswith("svg")
