"""The second generator of storms: physics, observers, noise, and how incidents are scored."""

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from ruamel.yaml import YAML

from bench import second_storm
from bench.second.faults import APART_S, KINDS, Fault, broken_at, draw
from bench.second.noise import QUIET, Noise, Way
from bench.second.observers import Sight, look
from bench.second.physics import STALL_S, Physics
from bench.second.speech import PACES, Listing, Word, speak
from bench.second.storm import START_S, Storm, write
from bench.second.world import Site, build, inventory
from correlator.importers import load_topology
from correlator.rules import load_pack
from correlator.topology import Topology
from firstfault.packs import find_pack
from schemas.base import from_microseconds
from schemas.outputs import Cause, Incident

ROOT = Path(__file__).resolve().parents[2]
HOST = "n1-03"
"""Management apart, two feeds, SR-IOV."""
CONVERGED = "n3-01"


@pytest.fixture(scope="module")
def site() -> Site:
    return build(1)


@pytest.fixture(scope="module")
def topology(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Topology:
    file = tmp_path_factory.mktemp("second") / "topology.json"
    file.write_text(json.dumps(inventory(site, {})), encoding="utf-8")
    graph, report = load_topology(file)
    assert not report.faults
    return graph


def broken(*things: str) -> frozenset[tuple[str, str]]:
    pairs = (thing.split(":", 1) for thing in things)
    return frozenset((what, name) for what, name in pairs)


def seen(site: Site, *things: str) -> set[tuple[str, str]]:
    now = broken(*things)
    return {(one.signal, one.entity) for one in look(Physics(site, now, now)).raised}


def fault(kind: str, things: frozenset[tuple[str, str]], names: tuple[str, ...]) -> Fault:
    return Fault(kind, HOST, names, 30.0, 130.0, ((0.0, things),))


# ---- physics and observers ---------------------------------------------------------------------


def test_a_whole_site_says_nothing(site: Site) -> None:
    assert look(Physics(site, frozenset())).raised == frozenset()


@pytest.mark.parametrize(
    ("things", "host", "planes"),
    [
        ([], HOST, {"mgmt", "tenant", "storage"}),
        (["switch:t1a"], HOST, {"mgmt", "tenant", "storage"}),
        (["switch:t1a", "switch:t1b"], HOST, {"mgmt"}),
        (["uplink:k1"], HOST, {"mgmt"}),
        (["switch:m1"], HOST, {"tenant", "storage"}),
        ([f"card:{HOST}/m0"], HOST, {"tenant", "storage"}),
        (["feed:f1a"], HOST, {"mgmt", "tenant", "storage"}),
        (["feed:f1a", "feed:f1b"], HOST, set()),
        (["uplink:k3"], CONVERGED, set()),
        (["switch:m3"], CONVERGED, {"mgmt", "tenant", "storage"}),
    ],
)
def test_planes_that_reach_the_fabric(
    site: Site, things: list[str], host: str, planes: set[str]
) -> None:
    now = Physics(site, broken(*things))
    assert {
        plane for plane in now.site.hosts[host].planes if now.routed(site.hosts[host], plane)
    } == planes


def test_a_cut_rack_still_reaches_itself(site: Site) -> None:
    now = Physics(site, broken("uplink:k3"))
    one, other, far = site.hosts[CONVERGED], site.hosts["n3-02"], site.hosts[HOST]
    assert now.reaches(one, other, "tenant")
    assert not now.reaches(one, far, "tenant")


def test_guests_stall_only_after_a_while_without_disks(site: Site) -> None:
    vm = site.vms_on(HOST)[0]
    lost = broken(f"pool:{site.hosts[HOST].pool}")
    assert Physics(site, lost, frozenset()).runs(vm)
    assert not Physics(site, lost, lost).runs(vm)


def test_a_dead_host_is_told_of_by_others_only(site: Site) -> None:
    raised = look(Physics(site, broken(f"power:{HOST}", f"standby:{HOST}"))).raised
    assert raised
    assert not [one for one in raised if one.source.startswith(f"collector:{HOST}/")]
    said = {(one.signal, one.entity) for one in raised}
    assert ("bmc.lost", f"bmc:{HOST}") in said
    assert ("os.hb.lost", f"host:{HOST}") in said
    assert ("hw.power.off", f"host:{HOST}") not in said, "its BMC is off too"


def test_a_host_with_standby_power_says_that_it_is_off(site: Site) -> None:
    assert ("hw.power.off", f"host:{HOST}") in seen(site, f"power:{HOST}")


def test_libvirtd_alone_stops_no_guest(site: Site) -> None:
    said = seen(site, f"libvirt:{HOST}")
    assert said == {
        ("hv.libvirt.down", f"hypervisor:{HOST}"),
        ("nova.svc.down", f"hypervisor:{HOST}"),
    }


def test_one_tor_harms_nobody_and_both_cut_the_rack(site: Site) -> None:
    one = {signal for signal, _ in seen(site, "switch:t3a")}
    both = {signal for signal, _ in seen(site, "switch:t3a", "switch:t3b")}
    assert {"tor.lost", "nic.carrier.down"} <= one
    assert not one & {"os.hb.lost", "vm.hb.lost"}
    assert {"os.hb.lost", "vm.hb.lost", "collector.lost"} <= both


def test_callers_of_a_dead_application_are_ill_and_alive(site: Site) -> None:
    callee = next(app.calls[0] for app in site.apps.values() if app.calls)
    said = seen(site, f"app:{callee}")
    callers = [app.name for app in site.apps.values() if callee in app.calls]
    for caller in callers:
        assert ("app.health.bad", f"app:{caller}") in said
        assert ("app.hb.lost", f"app:{caller}") not in said


def test_a_dead_observer_says_nothing(site: Site) -> None:
    assert any(signal == "vm.hb.lost" for signal, _ in seen(site, f"vswitch:{HOST}"))
    said = seen(site, f"vswitch:{HOST}", "observer:guest-probe")
    assert not any(signal == "vm.hb.lost" for signal, _ in said)
    assert ("collector.lost", "collector:guest-probe") in said


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_is_said_of_a_fault_is_in_the_catalogue_and_in_the_inventory(
    site: Site, topology: Topology, kind: str
) -> None:
    catalogue = YAML(typ="safe").load(ROOT / "schemas" / "signals.yaml")["signals"]
    rng = random.Random(kind)
    drafts = [KINDS[kind](site, host, rng) for host in site.hosts.values()]
    some = [draft for draft in drafts if draft is not None][:3]
    assert some, "no host has such a thing"
    for draft in some:
        assert all(name in topology for name in draft.names)
        for _, things in draft.phases:
            raised = look(Physics(site, things, things)).raised
            assert raised, "it shows nothing"
            for sight in raised:
                assert sight.signal in PACES
                kinds = catalogue[sight.signal]["kinds"]
                assert sight.entity.partition(":")[0] in kinds, sight
                assert sight.entity in topology, sight


def test_the_inventory_uses_allowed_edges_only(site: Site) -> None:
    schema = YAML(typ="safe").load(ROOT / "rules" / "topology-schema.yaml")
    allowed = {(edge["from"], edge["relation"], edge["to"]) for edge in schema["edges"]}
    used = {
        (edge["from"].partition(":")[0], edge["relation"], edge["to"].partition(":")[0])
        for edge in inventory(site, {})["edges"]
    }
    assert used <= allowed


# ---- speech --------------------------------------------------------------------------------------


def _spoken(site: Site, one: Fault) -> tuple[list[Word], list[Listing]]:
    words, listings, _ = speak(site, [one], frozenset(), random.Random(1))
    return words, listings


def test_a_blind_observer_takes_nothing_back(site: Site) -> None:
    cut = broken(f"power:{HOST}")
    early = (*broken(f"card:{HOST}/e0"),)
    phases = ((0.0, frozenset(early)), (20.0, frozenset(early) | cut))
    one = Fault("test", HOST, (f"host:{HOST}",), 30.0, 130.0, phases)
    words, listings = _spoken(site, one)
    of_card = [w for w in words if w.sight[1:3] == ("nic.carrier.down", f"nic:{HOST}/e0")]
    assert [word.state for word in of_card] == ["raised", "cleared"]
    assert of_card[1].at >= one.end
    silent = [x for x in listings if x.source == f"collector:{HOST}/link" and 50.0 <= x.at < 130.0]
    assert not silent


def test_each_end_follows_its_beginning_and_names_its_fault(site: Site) -> None:
    words, _ = _spoken(site, fault("test", broken(f"vswitch:{HOST}"), (f"vswitch:{HOST}",)))
    by_sight: dict[Sight, list[Word]] = {}
    for word in sorted(words, key=lambda w: w.at):
        by_sight.setdefault(word.sight, []).append(word)
    for told in by_sight.values():
        assert told[0].state == "raised"
        assert told[0].causes == {0}
        assert all(one.state != other.state for one, other in pairwise(told))


def test_lists_hold_what_is_raised_and_end_empty(site: Site) -> None:
    _, listings = _spoken(site, fault("test", broken(f"vswitch:{HOST}"), (f"vswitch:{HOST}",)))
    mine = [one for one in listings if one.source == f"collector:{HOST}/proc"]
    assert any(word.sight.signal == "vs.proc.exit" for one in mine for word in one.facts)
    assert not mine[-1].facts


# ---- faults and noise ----------------------------------------------------------------------------


@pytest.mark.parametrize("overlapping", [False, True])
def test_every_kind_is_drawn_and_none_twice_on_one_thing(site: Site, *, overlapping: bool) -> None:
    faults = draw(site, 1, overlapping=overlapping)
    assert {one.kind for one in faults} == set(KINDS)
    names = [name for one in faults for name in one.names]
    assert len(names) == len(set(names))


def test_faults_apart_share_no_rack_while_they_echo(site: Site) -> None:
    for one, other in pairwise(draw(site, 1, overlapping=False)):
        if other.start < one.end + APART_S:
            assert site.hosts[one.host].rack != site.hosts[other.host].rack


def test_overlapping_faults_meet(site: Site) -> None:
    faults = draw(site, 1, overlapping=True)
    meet = [
        one
        for one in faults
        for other in faults
        if one is not other and other.start <= one.start < other.end
    ]
    assert len(meet) >= len(faults) // 3


def test_phases_follow_each_other() -> None:
    first, later = broken("warm:a"), broken("warm:a", "hot:a")
    one = Fault("test", "a", ("host:a",), 10.0, 50.0, ((0.0, first), (20.0, later)))
    assert [broken_at([one], at) for at in (9.0, 10.0, 31.0, 50.0)] == [
        frozenset(),
        first,
        later,
        frozenset(),
    ]
    assert set(one.turns()) == {10.0, 10.0 + STALL_S, 30.0, 30.0 + STALL_S, 50.0, 50.0 + STALL_S}


def test_noise_loses_its_share_and_a_silenced_root_stays_so() -> None:
    one = fault("test", frozenset(), ("vswitch:a",))
    other = [
        Word(float(n), Sight("x", "vm.hb.lost", f"vm:{n}"), "raised", frozenset({0}))
        for n in range(2000)
    ]
    root = Sight("collector:a/proc", "vs.proc.exit", "vswitch:a")
    told = [Word(float(n), root, "raised", frozenset({0})) for n in range(20)]
    kept = Way([one], Noise(doubled=0.0), random.Random(1)).carry(other, [])
    assert 0.27 < 1 - len(kept) / len(other) < 0.33
    late = sum(arrival.at - arrival.said.at > 1.0 for arrival in kept)
    assert 0.17 < late / len(kept) < 0.23
    sizes = {
        len(Way([one], Noise(doubled=0.0), random.Random(seed)).carry(told, []))
        for seed in range(20)
    }
    assert sizes == {0, 20}


def test_what_is_said_of_one_condition_stays_in_order() -> None:
    sight = Sight("x", "vm.hb.lost", "vm:a")
    words = [Word(float(n), sight, "raised") for n in range(200)]
    kept = Way([], Noise(doubled=0.0), random.Random(1)).carry(words, [])
    assert [a.said.at for a in kept] == sorted(a.said.at for a in kept)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for hashing in ("1", "2"):
        command = [sys.executable, "-m", "bench.second", "storm", str(tmp_path / hashing)]
        subprocess.run(  # noqa: S603 - our own module
            [*command, "--variant", "hard", "--seed", "2", "--faults", "3"],
            check=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hashing},
            stdout=subprocess.DEVNULL,
        )
    for name in ("log.jsonl", "topology.json", "labels.jsonl", "META.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


# ---- the score -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def storm(site: Site) -> Storm:
    """One dead vSwitch and one cut rack, of which everything arrives."""
    faults = [
        fault("C08-vswitch", broken(f"vswitch:{HOST}"), (f"vswitch:{HOST}",)),
        replace(fault("C04b", broken("uplink:k3"), ("rack:k3", "group:k3/tor")), start=40.0),
    ]
    words, listings, end = speak(site, faults, frozenset(), random.Random(1))
    arrivals = Way(faults, QUIET, random.Random(1)).carry(words, listings)
    return Storm("quiet", 0, site, tuple(faults), tuple(arrivals), {}, frozenset(), end)


def _named(root: str, at: float, state: Literal["open", "suspected"] = "open") -> Incident:
    time = from_microseconds(round((START_S + at) * 1e6))
    return Incident(
        incident_id=root,
        domain="d",
        update=0,
        state=state,
        opened_at=time,
        updated_at=time,
        onset_at=time,
        confidence=1.0,
        margin=1.0,
        causes=[Cause(entity=root, signature="s", score=1.0)],
        evidence=[],
        rules="r",
        rule="s",
    )


def test_incidents_are_matched_by_name_and_time(storm: Storm, topology: Topology) -> None:
    said = [
        _named(f"vswitch:{HOST}", 35.0),
        _named("group:k3/tor", 45.0),
        _named(f"host:{HOST}", 36.0),
        _named("vswitch:n1-04", 50.0, "suspected"),
        _named("rack:k3", 900.0),
    ]
    scored = second_storm.score(storm, second_storm.heard(iter(said)), topology)
    figures = scored.figures()
    assert (figures["told"], figures["right"], figures["only_suspected"]) == (4, 2, 1)
    assert figures["recall"] == 1.0
    assert {one["named"] for one in scored.spurious} == {f"host:{HOST}", "rack:k3"}
    assert not scored.misses


def test_a_fault_that_nobody_names_is_a_miss(storm: Storm, topology: Topology) -> None:
    said = [_named("rack:k3", 45.0)]
    scored = second_storm.score(storm, second_storm.heard(iter(said)), topology)
    assert scored.figures()["recall"] == 0.5
    assert "vs.proc.exit" in " ".join(scored.misses[0]["arrived"])


def test_a_fault_of_which_nothing_arrived_is_not_asked_for(
    storm: Storm, topology: Topology
) -> None:
    deaf = replace(storm, arrivals=())
    assert second_storm.score(deaf, [], topology).figures()["recall"] is None


def test_a_hint_alone_makes_no_fault_visible(storm: Storm) -> None:
    hint = Sight("collector:nova", "nova.svc.down", "hypervisor:a")
    down = Word(100.0, hint, "raised", frozenset({0}))
    crash = replace(down, sight=Sight("x", "vs.proc.exit", "vswitch:a"), causes=frozenset({1}))
    heard = Way(list(storm.faults), QUIET, random.Random(1)).carry([down, crash], [])
    assert replace(storm, arrivals=tuple(heard)).visible() == {1}


@pytest.mark.parametrize(
    ("at", "host", "verdict"),
    [(100.0, HOST, "wrong"), (100.0, CONVERGED, "unwise"), (300.0, CONVERGED, "wrong")],
)
def test_a_fence_is_judged_by_what_was_true(
    storm: Storm, at: float, host: str, verdict: str
) -> None:
    assert second_storm.fence_verdict(storm, host, at) == verdict


@pytest.mark.parametrize(
    ("thing", "verdict"),
    [(f"power:{HOST}", "right"), (f"user:{HOST}", "right"), ("uplink:k1", "unwise")],
)
def test_a_fence_of_an_ill_host(storm: Storm, thing: str, verdict: str) -> None:
    ill = fault("test", broken(thing), (f"host:{HOST}",))
    assert second_storm.fence_verdict(replace(storm, faults=(ill,)), HOST, 100.0) == verdict


def test_a_fence_of_a_host_that_its_own_cable_and_one_switch_of_two_cut_off(storm: Storm) -> None:
    host = storm.site.hosts[CONVERGED]
    first, second = host.bonds[f"{CONVERGED}/bond0"]
    cut = fault("C05", broken(f"card:{first}"), (f"link:{first}",))
    lost = fault("C04a", broken(f"switch:{host.cards[second]}"), (f"switch:{host.cards[second]}",))
    for faults, verdict in (((cut,), "wrong"), ((lost,), "wrong"), ((cut, lost), "right")):
        assert (
            second_storm.fence_verdict(replace(storm, faults=faults), CONVERGED, 100.0) == verdict
        )


def test_a_fence_of_a_host_that_could_be_managed(storm: Storm) -> None:
    paths = (f"path:{path}" for path in storm.site.hosts[HOST].paths)
    ill = fault("C12b", broken(*paths), (f"group:{HOST}/storage",))
    verdict = second_storm.fence_verdict(replace(storm, faults=(ill,)), HOST, 100.0)
    assert verdict == "manageable"


def test_a_recording_can_be_replayed_and_scored(storm: Storm, tmp_path: Path) -> None:
    write(storm, tmp_path)
    rules = load_pack(find_pack("nfvi"))
    figures = second_storm.measure(storm, rules).figures()
    assert figures["visible"] == 2
    assert figures["told"] >= 1
    assert figures["fences"].get("wrong", 0) == 0
    assert (tmp_path / "labels.jsonl").read_text(encoding="utf-8").count("\n") == 2
