"""No altered byte passes: whatever is believed says what was signed."""

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from correlator.engine import Stamped
from correlator.signing import Verifier
from schemas.base import document_of
from schemas.inputs import Command, Input
from tests.signed import (
    ACTUATOR,
    COLLECTOR,
    DOMAIN,
    MAY,
    OPERATOR,
    REGION,
    WORKER,
    checked,
    claim,
    command,
    edit,
    key_set,
    line,
    result,
    signed,
    verdict,
)
from tests.worlds import START_US

KEYS = key_set()
SIGNED_LINES = [
    line(signed(identity, one))
    for identity, one in (
        (OPERATOR, command(reason="DIMM swap, rack 7 \N{LATIN SMALL LETTER U WITH DIAERESIS}")),
        (ACTUATOR, result()),
        (WORKER, claim()),
        (COLLECTOR, edit()),
        (REGION, verdict()),
    )
]


def read(text: bytes) -> list[Input]:
    with tempfile.TemporaryDirectory() as folder:
        return [record.input for record in checked(Path(folder), [text], [KEYS])[0]]


WRITTEN = [read(text)[0] for text in SIGNED_LINES]


def says_what_was_signed(number: int, text: bytes) -> bool:
    """Claim that what is believed of a line, if anything, is what was signed, and still signed."""
    believed = [one for one in read(text) if one.type != "event"]
    return not believed or [document_of(one) for one in believed] == [document_of(WRITTEN[number])]


@given(st.data())
def test_no_altered_byte_of_a_signed_input_passes(data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(SIGNED_LINES) - 1))
    text = SIGNED_LINES[number]
    place = data.draw(st.integers(text.index(b'"input"'), len(text) - 1))
    byte = data.draw(st.integers(0, 255))
    assert says_what_was_signed(number, text[:place] + bytes([byte]) + text[place + 1 :])


def test_no_flipped_bit_of_a_command_passes() -> None:
    text = SIGNED_LINES[0]
    for place in range(text.index(b'"input"'), len(text)):
        flipped = [text[place] ^ (1 << bit) for bit in range(8)]
        for byte in flipped:
            changed = text[:place] + bytes([byte]) + text[place + 1 :]
            verifier = Verifier.from_start(DOMAIN, "0", [KEYS])
            assert says_what_was_signed(0, changed), changed
            assert verifier.believed.keys == KEYS.hash


@given(st.data())
def test_no_inserted_or_removed_bytes_pass(data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(SIGNED_LINES) - 1))
    text = SIGNED_LINES[number]
    place = data.draw(st.integers(text.index(b'"input"'), len(text)))
    removed = data.draw(st.integers(0, 8))
    inserted = data.draw(st.binary(max_size=8))
    assert says_what_was_signed(number, text[:place] + inserted + text[place + removed :])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*Command.model_fields, "ticket"]), VALUES, min_size=1))
@example({"target": "host:h9"})
@example({"signature": None})
def test_no_altered_field_passes(changes: dict[str, Any]) -> None:
    """The signature of one message is put on another that a verifier can read."""
    document = {**document_of(WRITTEN[0]), **changes}
    verifier = Verifier.from_start(DOMAIN, "0", [KEYS])
    try:
        forged = Command.model_validate(document)
    except ValueError:
        return
    refusal = verifier.refusal(Stamped(0, 0, START_US, forged), line(forged))
    assert refusal is not None or document_of(forged) == document_of(WRITTEN[0])


@given(st.sampled_from(sorted(MAY)), st.lists(st.sampled_from(range(5)), max_size=6))
def test_what_is_believed_does_not_depend_on_what_was_refused(
    forger: str, order: list[int]
) -> None:
    """Refused inputs change nothing: a verifier that never saw them remembers the same."""
    forged = line(signed(forger, command(), version=1))
    alone, beset = (Verifier.from_start(DOMAIN, "0", [KEYS]) for _ in range(2))
    for number in order:
        record = Stamped(0, 0, START_US, WRITTEN[number])
        assert beset.refusal(Stamped(0, 0, START_US, command()), forged) is not None
        one, other = (v.refusal(record, SIGNED_LINES[number]) for v in (alone, beset))
        assert one == other
    assert alone.document() == beset.document()
