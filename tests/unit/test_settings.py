"""What a site says of an entity: class first, then the entity's own, the last document wins."""

from typing import Any

import pytest
from pydantic import ValidationError

from correlator.rules.settings import MECHANISMS, Book, Effective, effective
from schemas.rules import Settings


def settings(*documents: dict[str, Any]) -> list[Settings]:
    """Return settings documents, named a, b, c, … where they have no name."""
    names = "abcdefgh"
    return [
        Settings.model_validate({"kind": "settings", "name": names[n], **one})
        for n, one in enumerate(documents)
    ]


def test_what_nobody_speaks_of_has_the_defaults() -> None:
    found = effective([], "vm:web")
    assert found == Effective("vm:web")
    assert (found.priority, found.mechanisms, found.migration) == (5, MECHANISMS, "live")


@pytest.mark.parametrize(
    ("documents", "key", "expected"),
    [
        pytest.param(
            [{"entities": "vm:*", "sla": "SAL1"}], "priority", 1, id="a class has its turn"
        ),
        pytest.param(
            [
                {"entities": "vm:*", "sla": "SAL3"},
                {"entities": "sla:SAL3", "mechanisms": ["restart"], "priority": 7},
            ],
            "mechanisms",
            ("restart",),
            id="a class says how",
        ),
        pytest.param(
            [
                {"entities": "vm:*", "sla": "SAL3", "priority": 2},
                {"entities": "sla:SAL3", "priority": 7},
            ],
            "priority",
            2,
            id="what is said of the entity comes before its class, whatever the order",
        ),
        pytest.param(
            [
                {"entities": "vm:*", "vnfm": {"notify": "kafka:vnfm"}, "vcpus": 8},
                {"entities": "vm:a", "vcpus": 2},
            ],
            "vcpus",
            2,
            id="the last document wins",
        ),
        pytest.param(
            [{"entities": "vm:*", "mechanisms": ["none"]}], "recover", False, id="none opts out"
        ),
    ],
)
def test_the_last_word_holds(documents: list[dict[str, Any]], key: str, expected: object) -> None:
    assert getattr(effective(settings(*documents), "vm:a"), key) == expected


def test_each_key_names_the_document_whose_word_it_is() -> None:
    found = effective(
        settings(
            {"entities": "vm:*", "sla": "SAL1", "exclude": ["rack:r1"]},
            {"entities": "sla:SAL1", "migration": "offline", "exclude": ["rack:r9"]},
            {"entities": "vm:a", "exclude": ["rack:r2", "host:h1"]},
        ),
        "vm:a",
    )
    assert found.by == {"sla": "a", "priority": "a", "migration": "b", "exclude": "c"}
    assert found.exclude == ("rack:r2", "host:h1")
    assert found.said_by == ("b", "a", "c")


def test_a_book_knows_which_keys_anybody_speaks_of() -> None:
    book = Book(settings({"entities": "host:h8", "carries": ["broker"]}))
    assert book.keys == {"carries"}
    assert book.of("host:h8").carries == ("broker",)
    assert book.of("host:h8") is book.of("host:h8")


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"capacity": {}}, id="a capacity of nothing"),
        pytest.param({"capacity": {"vms": -1}}, id="a negative capacity"),
        pytest.param({"mechanisms": ["none", "restart"]}, id="none beside another"),
        pytest.param({"vnfm": {"ack": True}}, id="an owner without an address"),
        pytest.param({"vnfm": {"notify": "nowhere"}}, id="an address that is no URI"),
        pytest.param({"vnfm": {"notify": "kafka:x", "hold": 10}}, id="a hold without its unit"),
        pytest.param({"carries": ["crown jewels"]}, id="something that is not ours"),
        pytest.param({"afinity": "g"}, id="a key that does not exist"),
    ],
)
def test_nonsense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings({"entities": "vm:*", **wrong})
