"""A snapshot is of the moment of its cut, whatever is folded while it is written."""

from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st

from correlator.engine import Engine, Stamped
from correlator.frames import Doubles
from correlator.live import Fold
from correlator.snapshots import Cut, restored
from schemas.inputs import Pulse
from tests.properties.strategies import LIBRARY, logs, storms
from tests.properties.test_engine_properties import text, ticking
from tests.worlds import RULES, Row, engine


@given(st.one_of(storms(), logs()), st.data())
@settings(max_examples=150)
def test_a_cut_is_of_its_moment_and_goes_on_as_the_first(
    rows: list[Row], data: st.DataObject
) -> None:
    records = ticking(rows)
    cut_at = data.draw(st.integers(0, len(records)), label="cut")
    through, alone = (engine(RULES, ticks="recorded", library=LIBRARY) for _ in range(2))
    for record in records[:cut_at]:
        through.step(record)
        alone.step(record)
    before = through.state.text()
    lines, after = written(through, records[cut_at:], data)
    assert after == text([one for record in records[cut_at:] for one in alone.step(record)])
    assert through.state.text() == alone.state.text()

    found = restored(lines, through.state.topology.schema)
    assert found.state.text() == before
    again = Engine(found.state, RULES, {rules.hash: rules for rules in LIBRARY})
    assert text([one for record in records[cut_at:] for one in again.step(record)]) == after
    assert again.state.text() == through.state.text()


def written(
    folding: Engine, records: list[Stamped], data: st.DataObject
) -> tuple[list[bytes], list[str]]:
    """Return the lines of a cut and what was said meanwhile: steps and slices take turns."""
    rest, said = iter(records), list[str]()
    cut = Cut(Fold(folding, folding.state.offset + 1), data.draw(st.integers(1, 4), label="slice"))
    lines = []
    for line in cut.lines():
        lines.append(line)
        steps = data.draw(st.integers(0, 4), label="steps")
        for record in islice(rest, steps):
            said += text(folding.step(record))
    cut.close()
    for record in rest:
        said += text(folding.step(record))
    return lines, said


def test_a_number_beyond_64_bits_does_not_stop_a_snapshot() -> None:
    folding = engine(RULES, ticks="recorded")
    pulse = Pulse(collector="collector:h1", seq=10**30)
    folding.step(Stamped(0, 0, 1_000_000, pulse))
    found = restored(list(Cut(Fold(folding, 1)).lines()), folding.state.topology.schema)
    assert found.state.pulses["collector:h1"][0] == 10**30


def test_frames_that_were_known_are_known_again() -> None:
    fold = Fold(engine(RULES), 1)
    fold.doubles.has("collector:h1/boot/7")
    again = Doubles()
    again.know(restored(list(Cut(fold).lines()), fold.engine.state.topology.schema).doubles)
    assert again.has("collector:h1/boot/7")
    assert not again.has("collector:h1/boot/8")
