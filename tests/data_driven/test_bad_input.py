"""Bad recordings through the real reader: what cannot be read is told, the rest is used."""

import gzip
import json
from pathlib import Path

import pytest
import zstandard

from correlator.recording import (
    LINE_BYTES_MAX,
    RecordingError,
    line_of,
    open_recording,
    read,
)
from correlator.replay import replay
from correlator.topology import build
from schemas.base import canonical
from schemas.inputs import Level, Tick
from schemas.outputs import DeadLetter, Output
from tests.worlds import RULES, SCHEMA, cloud, event, incidents, log, roots

START_S = 1_795_428_000
APP = "app:r0h0v0"


def line(second: float, entity: str = APP, signal: str = "app.down", **more: object) -> str:
    """Return a line of a recording folder."""
    kind, _, name = entity.partition(":")
    given = {"ts": START_S + second, "entity": {"kind": kind, "id": name}, "type": signal}
    return json.dumps({**given, **more})


def ignored(_: DeadLetter) -> None:
    """Take a dead letter that a test does not ask about."""


def with_entity(entity: object) -> str:
    return json.dumps(json.loads(line(0.5)) | {"entity": entity})


GOOD = line(0)
LAST = line(1, "nic:r0h1/a", "nic.down")


def folder(path: Path, content: bytes, name: str = "events.jsonl") -> Path:
    path.joinpath(name).write_bytes(content)
    return path


def replayed(path: Path) -> tuple[list[Output], list[DeadLetter]]:
    dead: list[DeadLetter] = []
    topology, _ = build([], cloud(), SCHEMA)
    told = replay(open_recording(path), topology, RULES, dead.append)
    return [output for _, _, output in told], dead


def nested(depth: int) -> str:
    return line(0.5, attrs={"deep": 0}).replace(": 0}", f": {'[' * depth}{']' * depth}}}")


@pytest.mark.parametrize(
    ("bad", "code", "says"),
    [
        pytest.param("{", "not_json", "EOF", id="half a line"),
        pytest.param("[]", "schema", "", id="a list"),
        pytest.param("null", "schema", "", id="null"),
        pytest.param(b'{"ts": "\xff"}', "not_utf8", "", id="invalid UTF-8"),
        pytest.param(b'{"ts": 1, "type": "\\ud800"}', "not_json", "", id="half a surrogate"),
        pytest.param(line(0.5).replace("ts", "t"), "schema", "ts", id="no time"),
        pytest.param(line(0.5, ts="noon"), "schema", "ts", id="a time that is text"),
        pytest.param(line(0.5, ts=-1), "schema", "ts", id="a time before 1970"),
        pytest.param(line(0.5, ts=1e300), "schema", "ts", id="a time without end"),
        pytest.param(line(0.5, ts=float("nan")), "not_finite", "NaN", id="NaN"),
        pytest.param(line(0.5, x=float("-inf")), "not_finite", "-Infinity", id="Infinity"),
        pytest.param('{"Infinity', "not_json", "", id="a broken line that says Infinity"),
        pytest.param(line(0.5, type=7), "schema", "type", id="a type that is a number"),
        pytest.param(line(0.5, type=""), "schema", "type", id="an empty type"),
        pytest.param(line(0.5, attrs=[1]), "schema", "attrs", id="attributes in a list"),
        pytest.param(with_entity("x"), "schema", "entity", id="an entity that is text"),
        pytest.param(line(0.5, state="on"), "schema", "state", id="an unknown state"),
        pytest.param(line(0.5, event_id="x" * 300), "schema", "event_id", id="a huge id"),
        pytest.param(nested(1000), "not_json", "recursion", id="1,000 levels"),
        pytest.param(nested(200_000), "not_json", "recursion", id="200,000 levels"),
        pytest.param(line(0.5, ts=0).replace("0,", "9" * 5000 + ","), None, "", id="5,000 digits"),
        pytest.param("x" * 3_000_000, "line_too_long", "bytes", id="three megabytes"),
        pytest.param(
            line(0.5, attrs={"x": "y" * 3_000_000}), "line_too_long", "bytes", id="and an event"
        ),
    ],
)
def test_a_line_that_cannot_be_read_is_told_with_its_place(
    tmp_path: Path, bad: str | bytes, code: str | None, says: str
) -> None:
    middle = bad.encode() if isinstance(bad, str) else bad
    content = b"\n".join([GOOD.encode(), middle, b"", LAST.encode(), b""])
    told, dead = replayed(folder(tmp_path, content))
    assert set(roots(told)) == {APP, "nic:r0h1/a"}
    assert [(letter.source, letter.position) for letter in dead] == [("events.jsonl", 2)]
    assert code is None or dead[0].code == code
    assert says.lower() in dead[0].reason.lower()
    assert len(dead[0].excerpt) <= 200


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(line(0.5, new_field={"a": 1}), id="an unknown field"),
        pytest.param(with_entity({"kind": "app", "id": "r0h0v0", "more": 1}), id="in entity"),
        pytest.param(line(0.5, "vm:nowhere", "vm.down"), id="an unknown entity"),
        pytest.param(line(0.5, "BGP session:x", "app.down"), id="a kind with a space"),
        pytest.param(line(0.5, "app:" + "x" * 400), id="a long name"),
        pytest.param(line(0.5, attrs={"change": 10**30}), id="a huge number"),
        pytest.param(line(0.5).replace('"type"', '"attrs": {"x": 1e999}, "type"'), id="1e999"),
        pytest.param(line(0.5, severity="cleared"), id="a clear by its severity"),
        pytest.param(line(0.5, event_id=None, source=None), id="nulls"),
        pytest.param(nested(50), id="50 levels"),
        pytest.param(line(-100_000), id="time that goes back a day"),
        pytest.param(line(0.5, "app:\u2028x", "app.down"), id="a line separator in a name"),
    ],
)
def test_what_is_only_odd_is_used(tmp_path: Path, odd: str) -> None:
    content = "\n".join([GOOD, odd, LAST]).encode()
    told, dead = replayed(folder(tmp_path, content))
    assert dead == []
    assert {APP, "nic:r0h1/a"} <= set(roots(told))


def test_names_are_the_same_in_events_and_topologies(tmp_path: Path) -> None:
    own = json.loads(line(0)) | {"entity": {"kind": "app", "id": APP}}
    told, dead = replayed(folder(tmp_path, json.dumps(own).encode()))
    assert (dead, set(roots(told))) == ([], {APP})


def test_a_doubled_line_changes_nothing(tmp_path: Path) -> None:
    once, _ = replayed(folder(tmp_path, "\n".join([GOOD, LAST]).encode()))
    twice, _ = replayed(folder(tmp_path, "\n".join([GOOD, LAST, GOOD, LAST]).encode()))
    assert roots(once) == roots(twice)
    counts = [[one.count for one in told.evidence] for told in incidents(twice)]
    assert counts == [[one.count for one in told.evidence] for told in incidents(once)]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"   \n"])
def test_an_empty_recording_says_nothing(tmp_path: Path, content: bytes) -> None:
    assert replayed(folder(tmp_path, content)) == ([], [])


MANY = "\n".join(line(n / 100, f"app:{n}") for n in range(20_000)).encode()


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_truncated_archive_is_read_as_far_as_it_goes(tmp_path: Path, suffix: str) -> None:
    packed = gzip.compress(MANY) if suffix == "gz" else zstandard.compress(MANY)
    path = folder(tmp_path, packed[: len(packed) // 2], f"events.jsonl.{suffix}")
    dead: list[DeadLetter] = []
    records = list(read(open_recording(path), dead.append))
    assert len(records) < 20_000
    assert len(dead) == 1
    assert dead[0].position == len(records) + 1
    # zstandard gives out what it has and says nothing; half a line is what is left.
    assert dead[0].code == {"gz": "cannot_decompress", "zst": "not_json"}[suffix]


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_an_archive_that_is_none_is_told(tmp_path: Path, suffix: str) -> None:
    path = folder(tmp_path, b"this is no archive", f"events.jsonl.{suffix}")
    told, dead = replayed(path)
    assert told == []
    assert [letter.code for letter in dead] == ["cannot_decompress"]
    with pytest.raises(RecordingError):
        open_recording(path / f"events.jsonl.{suffix}")


@pytest.mark.parametrize("suffix", ["gz", "zst", ""])
def test_an_archive_is_read_like_a_plain_file(tmp_path: Path, suffix: str) -> None:
    plain = f"{GOOD}\n{LAST}\n".encode()
    packed = {"gz": gzip.compress(plain), "zst": zstandard.compress(plain), "": plain}[suffix]
    path = folder(tmp_path, packed, f"events.jsonl.{suffix}".rstrip("."))
    told, dead = replayed(path)
    assert (dead, set(roots(told))) == ([], {APP, "nic:r0h1/a"})


# ---- our own recordings --------------------------------------------------------------------

DAYS_30_S = 30 * 86_400.0


def stamps(*seconds: float) -> bytes:
    """Return a log of one link that loses its carrier, and gets it back, at these seconds."""
    states = ("raised", "cleared")
    rows = [
        line(second, "nic:r0h1/a", "nic.down", state=states[number % 2], event_id=str(number))
        for number, second in enumerate(seconds)
    ]
    return "\n".join(rows).encode()


@pytest.mark.parametrize("wrong", [0, 1, 7, 30])
@pytest.mark.parametrize("many", [1, 5])
def test_a_stamp_far_ahead_is_not_the_time_of_the_log(
    tmp_path: Path, wrong: int, many: int
) -> None:
    seconds = [float(n) for n in range(40)]
    good = incidents(replayed(folder(tmp_path, stamps(*seconds)))[0])
    seconds[wrong:wrong] = [DAYS_30_S + n for n in range(many)]
    told, dead = replayed(folder(tmp_path, stamps(*seconds)))
    assert [letter.position for letter in dead] == list(range(wrong + 1, wrong + many + 1))
    assert {letter.code for letter in dead} == {"stamp_ahead"}
    assert len({one.incident_id for one in incidents(told)}) == len(
        {one.incident_id for one in good}
    )


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param([0, 1, DAYS_30_S, DAYS_30_S + 1], id="a log that was silent for a month"),
        pytest.param([0, 1, 2, DAYS_30_S], id="a last line that nothing follows"),
        pytest.param([0, 100, 1, 2, 3], id="what is only late"),
        pytest.param([DAYS_30_S, 0, DAYS_30_S, DAYS_30_S + 1], id="one line of long ago"),
    ],
)
def test_a_leap_that_nothing_speaks_against_is_taken(tmp_path: Path, seconds: list[float]) -> None:
    assert replayed(folder(tmp_path, stamps(*seconds)))[1] == []


def test_a_case_is_judged_by_its_own_lines(tmp_path: Path) -> None:
    rows = [
        line(second + n, attrs={"case": case}, event_id=f"{case}{n}")
        for n in range(3)
        for case, second in (("a", 0.0), ("b", DAYS_30_S))
    ]
    assert replayed(folder(tmp_path, "\n".join(rows).encode()))[1] == []


HEADER = canonical({"firstfault": "recording", "v": 1, "ticks": "synthesised", "domain": "pod-1"})
OWN = [line_of(one) for one in log([(0, event(APP, "app.down")), (1, event(APP, "app.down"))])]


def own(path: Path, *lines: str) -> Path:
    recording = path / "run.jsonl"
    recording.write_text("\n".join(lines))
    return recording


def test_our_own_recording_is_read_back(tmp_path: Path) -> None:
    path = own(tmp_path, HEADER, *OWN)
    recording = open_recording(path)
    assert recording.header.domain == "pod-1"
    assert [line_of(one) for one in read(recording, ignored)] != []
    told, dead = replayed(path)
    assert (dead, set(roots(told))) == ([], {APP})


def test_a_file_without_header_and_with_lines_of_a_folder_is_read_too(tmp_path: Path) -> None:
    told, dead = replayed(own(tmp_path, GOOD, LAST))
    assert (dead, set(roots(told))) == ([], {APP, "nic:r0h1/a"})


def test_inputs_of_every_type_are_read_back(tmp_path: Path) -> None:
    rows = [line_of(one) for one in log([(0, Tick()), (1, Level(source="s", facts=[]))])]
    recording = open_recording(own(tmp_path, HEADER, *rows))
    assert [line_of(one) for one in read(recording, ignored)] == rows


@pytest.mark.parametrize(
    "bad",
    [
        OWN[0].replace('"offset":0', '"offset":-1'),
        OWN[0].replace("2026", "20266"),
        OWN[0].replace("app:r0h0v0", "nothing"),
        OWN[0].replace('"event"', '"evnt"'),
        OWN[0].replace('"offset"', '"sent_at":"soon","offset"'),
        '{"input": {"type": "level", "source": "s", "facts": {}}}',
        HEADER,
    ],
)
def test_a_bad_line_of_our_own_recording_is_told(tmp_path: Path, bad: str) -> None:
    told, dead = replayed(own(tmp_path, HEADER, bad, OWN[1]))
    assert [letter.position for letter in dead] == [2]
    assert set(roots(told)) == {APP}


@pytest.mark.parametrize("sent_at", ["2026-11-23T10:00:09Z", "2026-11-23T10:00:01Z"])
def test_an_input_much_older_than_its_frame_was_spooled(tmp_path: Path, sent_at: str) -> None:
    moment = "2026-11-23T10:00:00Z"
    given = {"type": "event", "entity": APP, "signal": "app.down", "at": moment}
    row = {"offset": 0, "log_at": moment, "sent_at": sent_at, "input": given}
    records = list(read(open_recording(own(tmp_path, json.dumps(row))), ignored))
    assert [one.spooled for one in records] == [sent_at.endswith("09Z")]


def test_the_same_event_has_the_same_id_wherever_it_stands(tmp_path: Path) -> None:
    plain = {"type": "event", "entity": APP, "signal": "app.down", "attrs": {"x": 1}}
    moment = "2026-11-23T10:00:00Z"
    rows = [{"offset": n, "log_at": moment, "input": plain} for n in range(2)]
    huge = json.dumps(rows[0]).replace('"x": 1', '"x": 1e999')
    path = own(tmp_path, HEADER, *map(json.dumps, rows), huge)
    ids = [getattr(one.input, "event_id", None) for one in read(open_recording(path), ignored)]
    assert ids[0] == ids[1] != ids[2]
    assert all(ids)
    assert all(line_of(one) for one in read(open_recording(path), ignored))


def test_progress_is_told_on_long_files(tmp_path: Path) -> None:
    seen: list[int] = []
    recording = open_recording(folder(tmp_path, MANY))
    assert len(list(read(recording, ignored, seen.append))) == 20_000
    assert seen == sorted(seen)
    assert seen[-1] <= recording.size_bytes


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"events\.jsonl"):
        open_recording(tmp_path)
    with pytest.raises(RecordingError, match="no such"):
        open_recording(tmp_path / "none")
    assert LINE_BYTES_MAX < 10_000_000
