"""The signal catalogue, and that shipped rules speak of nothing else."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from correlator.rules import RuleSet, load_pack
from correlator.rules.signals import Catalogue, catalogue, layer_of

NFVI = Path(__file__).parents[2] / "rules" / "nfvi"
SIGNAL = {
    "text": "the card has no carrier",
    "kinds": ["nic"],
    "producer": "rtnetlink",
    "lateness": "50ms",
    "lies": "a one-way fault keeps the carrier",
}


@pytest.fixture(scope="module")
def nfvi() -> RuleSet:
    return load_pack(NFVI)


def test_every_signal_of_the_pack_is_in_the_catalogue(nfvi: RuleSet) -> None:
    assert sorted(nfvi.signals.keys() - catalogue().signals.keys()) == []


def test_every_symptom_listens_to_signals_of_the_catalogue(nfvi: RuleSet) -> None:
    heard = {name for spec in nfvi.symptoms.values() for name in spec.signals}
    assert heard
    assert sorted(heard - catalogue().signals.keys()) == []


def test_periods_of_the_pack_are_those_of_the_catalogue(nfvi: RuleSet) -> None:
    listed = catalogue().signals
    told = {name: rule.period for name, rule in nfvi.signals.items()}
    assert told == {name: listed[name].period for name in told}


def test_signatures_show_signals_only_on_kinds_that_they_are_told_of(nfvi: RuleSet) -> None:
    listed = catalogue().signals
    wrong = [
        (signature.name, signal, kind)
        for signature in nfvi.signatures
        for cell in signature.cells
        if not cell.is_told
        for kind in [cell.path[-1].kind if cell.path else signature.root]
        for symptom in cell.symptoms
        for signal in nfvi.symptoms[symptom].signals
        if kind not in listed[signal].kinds
    ]
    assert wrong == []


def test_kinds_of_the_catalogue_are_in_the_topology_schema(nfvi: RuleSet) -> None:
    kinds = {kind for signal in catalogue().signals.values() for kind in signal.kinds}
    assert sorted(kinds - nfvi.schema.kinds.keys()) == []


def test_every_layer_is_used_and_every_name_begins_with_one() -> None:
    used = {layer_of(name) for name in catalogue().signals}
    assert used == set(catalogue().layers)


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        pytest.param("link.down", {}, "no such layer", id="unknown layer"),
        pytest.param("carrier", {}, "should match pattern", id="name without a layer"),
        pytest.param("nic.down", {"period": 5}, "needs its unit", id="period without a unit"),
        pytest.param("nic.down", {"lies": ""}, "at least 1", id="no word on when it lies"),
        pytest.param("nic.down", {"kind": "nic"}, "Extra inputs", id="unknown key"),
    ],
)
def test_a_bad_signal_is_refused(name: str, changed: dict[str, object], said: str) -> None:
    document = {"layers": {"nic": "network cards"}, "signals": {name: {**SIGNAL, **changed}}}
    with pytest.raises(ValidationError, match=said):
        Catalogue.model_validate(document)
