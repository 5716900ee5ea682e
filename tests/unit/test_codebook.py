"""Which fault shows what, on small clouds; an edit gives what a fresh codebook gives."""

import pytest

from correlator import codebook as codebook_module
from correlator.codebook import Codebook
from correlator.rules.paths import parse_path
from correlator.rules.ruleset import SignatureSpec
from correlator.topology import Topology
from tests.worlds import SIGNATURES, cloud, rule_set, signature, topology

RULES = rule_set()
INDEX = {spec.name: index for index, spec in enumerate(RULES.signatures)}


def causes(book: Codebook, symptom: str, entity: str) -> list[tuple[str, str]]:
    names = [spec.name for spec in book.rules.signatures]
    return [(names[fault[0]], fault[1]) for fault in book.causes(symptom, entity)]


def test_a_symptom_has_every_fault_that_shows_it() -> None:
    book = Codebook(topology(), RULES)
    assert causes(book, "app.down", "app:r0h0v1") == [
        ("app-fault", "app:r0h0v1"),
        ("host-fault", "host:r0h0"),
        ("pool-fault", "pool:p"),
        ("vm-fault", "vm:r0h0v1"),
    ]
    assert causes(book, "app.down", "vm:r0h0v1") == []
    assert causes(book, "no.such", "app:r0h0v1") == []


def test_a_structural_claim_makes_or_unmakes_a_root() -> None:
    book = Codebook(topology(), RULES)
    assert ("rack-fault", "rack:r0") in causes(book, "host.down", "host:r0h0")
    alone = Codebook(topology(cloud(hosts=1)), RULES)
    assert alone.column((INDEX["rack-fault"], "rack:r0")) is None
    assert alone.cell_of((INDEX["rack-fault"], "rack:r0"), "host.down", "host:r0h0") is None
    assert alone.missing((INDEX["rack-fault"], "rack:r0"), (), 9) == {}


def test_missing_names_what_a_cell_addresses_and_nothing_was_seen_on() -> None:
    book = Codebook(topology(), RULES)
    fault = (INDEX["host-fault"], "host:r0h0")
    missing = book.missing(fault, {("vm.down", "vm:r0h0v0")}, 9)
    assert missing[1] == ["vm:r0h0v1"]
    assert missing[2] == ["app:r0h0v0", "app:r0h0v1"]
    assert book.missing(fault, (), 1)[2] == ["app:r0h0v0"]


NIC = signature("nic-fault", "nic", ("host.down", "lag.host", 0.9))
PAIR = signature("pair-fault", "rack", ("host.down", "nic.lag.host", 0.9))


@pytest.mark.parametrize(
    ("spec", "root", "shows"),
    [
        pytest.param(NIC, "nic:r0h0/a", False, id="one member of two fails: the group withstands"),
        pytest.param(PAIR, "rack:x", True, id="both members are walked: the group fails"),
    ],
)
def test_failure_passes_a_group_only_when_all_its_members_are_walked(
    spec: SignatureSpec, root: str, *, shows: bool
) -> None:
    graph = topology()
    for nic in ("nic:r0h0/a", "nic:r0h0/b"):
        graph.add_edge(nic, "powered_by", "rack:x")
    book = Codebook(graph, rule_set((spec,)))
    assert (causes(book, "host.down", "host:r0h0") == [(spec.name, root)]) is shows


EVERYWHERE = [
    signature("near", "*", ("app.down", "*", 0.4), ("app.down", "*.*", 0.2)),
    signature("sibling", "vm", ("app.down", "^host.vm.app", 0.5), where=["count(^host) == 1"]),
    signature("by-role", "pool", ("app.down", "vm.app", 0.5), where=["count(vm.^host) > 1"]),
    signature("either", "host", ("app.down", "~vm.~app", 0.5)),
    signature("either-up", "app", ("app.down", "~vm.~*", 0.5), ("vm.down", "~vm.~pool", 0.5)),
    signature("hub", "pool", ("vm.down", "~vm", 0.5)),
]


def edit(graph: Topology, number: int) -> set[str]:
    """Make one of some edits; return the nodes it names."""
    if number == 0:
        graph.move_edge("vm:r0h0v0", "hosted_by", "host:r1h1")
        return {"vm:r0h0v0", "host:r0h0", "host:r1h1"}
    if number == 1:
        graph.remove_edge("lag:r0h0", "member_of", "nic:r0h0/b")
        return {"lag:r0h0", "nic:r0h0/b"}
    if number == 2:
        near = {"host:r1h1", *graph.dependencies("host:r1h1"), *graph.down["host:r1h1"]}
        graph.remove_node("host:r1h1")
        return near
    if number == 3:
        graph.add_edge("app:new", "runs_on", "vm:r1h0v0")
        return {"app:new", "vm:r1h0v0"}
    graph.add_node("lag:r0h0", redundant=False)
    return {"lag:r0h0"}


@pytest.mark.parametrize("number", range(5))
def test_after_an_edit_the_codebook_is_as_if_made_anew(number: int) -> None:
    graph = topology(cloud(racks=2))
    rules = rule_set((*SIGNATURES, *EVERYWHERE, NIC))
    symptoms = sorted(rules.symptoms)
    book = Codebook(graph, rules)
    for entity in graph:
        for symptom in symptoms:
            book.causes(symptom, entity)
    book.forget(edit(graph, number))
    fresh = Codebook(graph, rules)
    for entity in graph:
        for symptom in symptoms:
            assert book.causes(symptom, entity) == fresh.causes(symptom, entity)
        for index in range(len(rules.signatures)):
            assert book.column((index, entity)) == fresh.column((index, entity))


def test_causes_miss_nothing_that_a_column_shows() -> None:
    graph = topology(cloud(racks=2))
    rules = rule_set((*SIGNATURES, *EVERYWHERE, NIC))
    book = Codebook(graph, rules)
    for symptom in sorted(rules.symptoms):
        for entity in graph:
            faults = [(i, root) for i in range(len(rules.signatures)) for root in sorted(graph)]
            shown = [(f, book.cell_of(f, symptom, entity)) for f in faults]
            exact = {fault: cell for fault, cell in shown if cell is not None}
            possible = set(book.causes(symptom, entity))
            assert exact.keys() <= possible
            for fault in possible - exact.keys():
                assert book.cell_of(fault, symptom, entity) is None


def test_an_edit_far_away_leaves_what_is_known() -> None:
    graph = topology([*cloud(), ("vm:z", "hosted_by", "host:z")])
    book = Codebook(graph, rule_set((signature("vm-fault", "vm", ("vm.down", "self", 0.9)),)))
    known = book.column((0, "vm:r0h0v0"))
    near = book.forget(["host:z"])
    assert near == {"host:z", "vm:z"}
    assert book.column((0, "vm:r0h0v0")) is known


def test_an_edit_in_a_hub_drops_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codebook_module, "NEIGHBOURHOOD_MAX", 3)
    book = Codebook(topology(), RULES)
    book.causes("app.down", "app:r0h0v0")
    assert book.forget(["pool:p"]) is None


def test_caches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codebook_module, "COLUMNS_MAX", 2)
    book = Codebook(topology(), RULES)
    first = [book.causes("app.down", f"app:r0h{h}v{v}") for h in (0, 1) for v in (0, 1)]
    again = [book.causes("app.down", f"app:r0h{h}v{v}") for h in (0, 1) for v in (0, 1)]
    assert first == again


def test_of_two_cells_that_reach_an_entity_the_shorter_path_counts() -> None:
    spec = signature("f", "host", ("vm.down", "vm.app.^vm", 0.1), ("vm.down", "vm", 0.9))
    book = Codebook(topology(), rule_set((spec,)))
    assert book.cell_of((0, "host:r0h0"), "vm.down", "vm:r0h0v0") == 1
    assert parse_path("vm") == spec.cells[1].path
