"""What the region makes of what domains tell it of a resource they share."""

import itertools
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator.region import AGAIN_US, GATHER_US, STANDS_US, Answer, Region
from schemas.base import canonical, document_of, from_microseconds, to_microseconds
from schemas.control import Domain, DomainMap
from schemas.inputs import FRAME_INPUTS_MAX
from schemas.outputs import Digest
from tests.worlds import SECOND_US, START_US

WAN = "link:wan-7"
PODS = ("pod-1", "pod-2", "pod-3")
LIVE = frozenset(PODS)
LATER_US = GATHER_US + 1


def domain_map(shared: Sequence[str] = (WAN,)) -> DomainMap:
    domains = [Domain(name=name, partition=number) for number, name in enumerate(PODS)]
    return DomainMap(domains=domains, shared=list(shared))


def digest(domain: str = "pod-1", state: str = "suspected", **more: object) -> bytes:
    told_at = from_microseconds(START_US)
    given = {"domain": domain, "resource": WAN, "state": state, "told_at": told_at, **more}
    return canonical(document_of(Digest.model_validate(given))).encode()


class Told:
    """A region that digests are told to, its clock, and all that it has answered."""

    def __init__(self, shared: Sequence[str] = (WAN,)) -> None:
        self.region, self.now_us = Region(domain_map(shared)), 0
        self.answers: list[Answer] = []

    def hears(self, *values: bytes) -> None:
        for value in values:
            self.region.fold(value, START_US, self.now_us)

    def after(self, us: int, spoken: frozenset[str] = LIVE) -> list[tuple[str, str]]:
        """Go on for so long; return what was answered meanwhile, as (resource, state)."""
        end_us, count = self.now_us + us, len(self.answers)
        while (due_us := self.region.due_us()) is not None and due_us <= end_us:
            self.now_us = max(self.now_us, due_us)
            self.answers += self.region.answers(self.now_us, spoken)
        self.now_us = end_us
        return [(one.resource, one.state) for one in self.answers[count:]]

    def begun(self) -> "Told":
        assert self.after(0) == [(WAN, "unknown")]
        return self


def test_at_first_each_domain_is_told_what_is_shared() -> None:
    told = Told(["link:b", "link:a"])
    assert told.after(0) == [("link:a", "unknown"), ("link:b", "unknown")]
    assert told.region.due_us() is None


def test_two_domains_that_doubt_it_are_answered_at_once() -> None:
    told = Told().begun()
    told.hears(digest("pod-1"))
    assert told.after(GATHER_US // 2) == []
    told.hears(digest("pod-2"))
    assert told.after(0) == [(WAN, "failed")]
    assert told.answers[-1].doubted_by == ("pod-1", "pod-2")


def test_one_that_is_sure_needs_no_second() -> None:
    told = Told().begun()
    told.hears(digest(state="failed", confidence=0.998))
    assert told.after(0) == []
    told.hears(digest(state="failed", confidence=0.999))
    assert told.after(0) == [(WAN, "failed")]


def test_one_suspicion_is_answered_after_a_while_and_never_with_failed() -> None:
    told = Told().begun()
    told.hears(digest())
    assert told.after(GATHER_US - 1) == []
    assert told.after(1) == [(WAN, "unknown")]


def test_another_domain_says_that_it_works() -> None:
    told = Told().begun()
    told.hears(digest("pod-2", "working"), digest("pod-1"))
    assert told.after(GATHER_US) == [(WAN, "working")]


def test_what_a_domain_said_for_which_nobody_speaks_now_is_silence() -> None:
    told = Told().begun()
    told.hears(digest("pod-2", "working"), digest("pod-1"))
    assert told.after(GATHER_US, spoken=frozenset({"pod-1"})) == [(WAN, "unknown")]


def test_a_good_word_that_comes_late_is_passed_on_at_once() -> None:
    told = Told().begun()
    told.hears(digest("pod-1"))
    assert told.after(LATER_US) == [(WAN, "unknown")]
    told.hears(digest("pod-2", "working"))
    assert told.after(0) == [(WAN, "working")]


def test_that_it_works_is_told_to_who_asked_alone_and_its_recall_to_all() -> None:
    told = Told().begun()
    told.hears(digest("pod-2", "working"), digest("pod-1"))
    told.after(GATHER_US)
    assert told.answers[-1].to == frozenset({"pod-1"})
    assert not told.answers[-1].is_for("pod-2")
    told.hears(digest("pod-2"))
    assert told.after(0) == [(WAN, "failed")]
    assert told.answers[-1].to is None
    told.hears(digest("pod-1", "working"), digest("pod-2", "working"))
    assert told.after(0) == [(WAN, "working")]
    assert told.answers[-1].is_for("pod-3")


def test_who_doubts_it_only_since_it_was_said_to_have_failed_is_asked_anew() -> None:
    told = Told().begun()
    told.hears(digest("pod-1"), digest("pod-2"))
    assert told.after(0) == [(WAN, "failed")]
    told.hears(digest("pod-3", "failed", confidence=1.0))
    told.hears(digest("pod-1", "working"))
    assert told.after(0) == []
    told.hears(digest("pod-2", "working"))
    assert told.after(0) == [(WAN, "unknown")]
    told.hears(digest("pod-1", "working"))
    assert told.after(0) == []
    told.hears(digest("pod-3", "failed", confidence=0.9))
    assert told.after(GATHER_US) == [(WAN, "working")]


def test_who_is_asked_anew_and_still_sure_is_believed() -> None:
    told = Told().begun()
    told.hears(digest("pod-1"), digest("pod-2"), digest("pod-3", "failed", confidence=1.0))
    told.after(0)
    told.hears(digest("pod-1", "working"), digest("pod-2", "working"))
    assert told.after(0) == [(WAN, "unknown")]
    told.hears(digest("pod-3", "failed", confidence=1.0))
    assert told.after(0) == [(WAN, "failed")]


def test_a_word_said_anew_asks_for_no_answer() -> None:
    told = Told().begun()
    told.hears(digest("pod-2", "working"), digest("pod-1"))
    nobody: frozenset[str] = frozenset()
    assert told.after(LATER_US, nobody) == [(WAN, "unknown")]
    told.hears(digest("pod-2", "working"), digest("pod-1"))
    assert told.after(LATER_US, nobody) == []


def test_failed_stands_until_nobody_doubts_it() -> None:
    told = Told().begun()
    told.hears(digest("pod-1"), digest("pod-2"))
    assert told.after(0) == [(WAN, "failed")]
    told.hears(digest("pod-1", "working"))
    assert told.after(AGAIN_US - 1) == []
    told.hears(digest("pod-2", "working"))
    assert told.after(0) == [(WAN, "working")]
    assert told.after(10 * AGAIN_US) == []


def test_what_stands_is_said_anew_before_it_expires() -> None:
    told = Told().begun()
    told.hears(digest("pod-1"), digest("pod-2"))
    assert told.after(3 * AGAIN_US) == [(WAN, "failed")] * 4
    assert [one.is_repeat for one in told.answers[-4:]] == [False, True, True, True]
    assert 2 * AGAIN_US < STANDS_US


def test_a_new_doubt_is_answered_though_the_answer_is_the_same() -> None:
    told = Told().begun()
    for _ in range(2):
        told.hears(digest("pod-2", "working"), digest("pod-1"))
        assert told.after(GATHER_US) == [(WAN, "working")]
        assert not told.answers[-1].is_repeat
        told.hears(digest("pod-1", "working"))
        told.after(0)


def test_history_is_answered_once_and_a_doubt_of_it_gathers_anew() -> None:
    told = Told()
    told.hears(digest("pod-2", "working"), digest("pod-1"))
    assert told.after(GATHER_US) == [(WAN, "unknown"), (WAN, "working")]


def test_what_had_failed_and_works_by_now_is_said_to_work_at_a_start() -> None:
    told = Told()
    told.hears(digest("pod-1"), digest("pod-2"), digest("pod-1", "working"))
    told.hears(digest("pod-2", "working"))
    assert told.after(SECOND_US) == [(WAN, "working")]


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (digest(resource="link:other"), "not_shared"),
        (digest("pod-9"), "unknown_domain"),
        (digest(log_generation="9"), "other_generation"),
        (digest(told_at="9999-01-01T00:00:00Z"), "ahead"),
        (digest(told_at="yesterday"), "unreadable"),
        (digest(told_at="2026-11-23T10:00:00"), "unreadable"),
        (b"\xff", "unreadable"),
        (b"", "unreadable"),
        (b'{"type":"digest"}', "unreadable"),
    ],
)
def test_what_does_not_count_is_counted(value: bytes, what: str) -> None:
    told = Told().begun()
    told.hears(value, value, digest("pod-2"))
    assert told.region.counts == {what: 2, "folded": 1}
    assert told.after(GATHER_US) == [(WAN, "unknown")]


def test_an_older_word_of_the_same_domain_does_not_come_back() -> None:
    told = Told().begun()
    earlier = from_microseconds(START_US - 1)
    told.hears(digest("pod-1", "working"), digest("pod-1", told_at=earlier))
    assert told.region.counts["late"] == 1
    assert told.after(SECOND_US) == []


def test_no_more_is_told_at_a_time_than_a_frame_holds_failures_first() -> None:
    names = [f"link:{number:03d}" for number in range(2 * FRAME_INPUTS_MAX)]
    told = Told(names)
    told.hears(*(digest(pod, resource=names[-1]) for pod in PODS))
    first = told.region.answers(0, LIVE)
    assert len(first) == FRAME_INPUTS_MAX
    assert (first[0].resource, first[0].state) == (names[-1], "failed")
    second = told.region.answers(0, LIVE)
    assert sorted(one.resource for one in first + second) == names
    assert told.region.answers(0, LIVE) == []


def test_a_verdict_says_when_it_was_given_and_how_long_it_is_good() -> None:
    verdict = Answer(WAN, "failed", ("pod-1",), is_repeat=False).verdict(START_US)
    assert verdict.at is not None
    assert verdict.expires_at is not None
    assert to_microseconds(verdict.at) == START_US
    assert to_microseconds(verdict.expires_at) == START_US + STANDS_US


# ---- whatever is told ----------------------------------------------------------------------

STATES = ("working", "suspected", "failed")
WORDS = st.tuples(st.sampled_from(PODS), st.sampled_from(STATES), st.sampled_from((0.5, 1.0)))
Saying = tuple[str, str, float]


def values(words: Iterable[Saying]) -> list[bytes]:
    return [digest(pod, state, confidence=sure) for pod, state, sure in words]


def states(words: Iterable[bytes], spoken: frozenset[str] = LIVE) -> list[str]:
    """Return all that is said when digests come 50 ms after each other, up to a second later."""
    told = Told().begun()
    for value in words:
        told.hears(value)
        told.after(GATHER_US // 4, spoken)
    told.after(SECOND_US, spoken)
    return [one.state for one in told.answers]


@given(st.fixed_dictionaries({pod: st.sampled_from(STATES) for pod in PODS}), st.booleans())
def test_it_does_not_matter_who_speaks_first(said: dict[str, str], sure: bool) -> None:  # noqa: FBT001 - of hypothesis
    words = values((pod, state, 1.0 if sure else 0.5) for pod, state in said.items())
    assert len({states(order)[-1] for order in itertools.permutations(words)}) == 1


@given(st.lists(WORDS, max_size=8), st.data())
def test_a_repeat_changes_nothing(words: list[Saying], data: st.DataObject) -> None:
    told, again = Told().begun(), Told().begun()
    for value in values(words):
        times = data.draw(st.integers(1, 3))
        told.hears(value)
        again.hears(*[value] * times)
        assert told.after(GATHER_US // 4) == again.after(GATHER_US // 4)
    assert told.after(SECOND_US) == again.after(SECOND_US)


@given(st.lists(st.sampled_from(("suspected", "working")), max_size=12), st.sampled_from(PODS))
def test_one_that_lies_never_makes_it_fail(said: list[str], liar: str) -> None:
    assert "failed" not in states(digest(liar, state, confidence=1.0) for state in said)


@given(st.lists(st.sampled_from(("suspected", "failed")), max_size=6))
def test_silence_says_neither_that_it_works_nor_that_it_failed(said: list[str]) -> None:
    assert set(states(digest("pod-1", state) for state in said)) == {"unknown"}


@given(st.lists(WORDS, max_size=12))
def test_it_works_only_once_nobody_doubts_it_or_another_speaks_for_it(words: list[Saying]) -> None:
    newest = {pod: state for pod, state, _ in words}
    if any(state != "working" for state in newest.values()):
        assert states(values(words), spoken=frozenset())[-1] in {"failed", "unknown"}
    elif any(state != "working" for _, state, _ in words):
        assert states(values(words), spoken=frozenset())[-1] == "working"
    else:
        assert states(values(words)) == ["unknown"]
