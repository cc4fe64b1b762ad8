"""The yardstick of the pair's lab: outages less what a control missed, questions and who answered them."""

from __future__ import annotations

import itertools
import random

import pytest

from tests.lab.pair.arp import Seen
from tests.lab.pair.measure import asked, noise_ms, outage_ns, overlap_ms, two_owners, union
from tests.lab.pair.rows import Row
from tests.lab.pair.run import Outcome, problems

EVERY = 2_000_000
END = 1_000_000_000


def steady(*missing: tuple[int, int]) -> list[int]:
    """Return answers every 2 ms but for those in the spans, in ms."""
    return [at for at in range(0, END, EVERY) if not any(a <= at / 1e6 < b for a, b in missing)]


def test_steady_answers_are_an_outage_of_one_period() -> None:
    assert outage_ns(steady(), [steady()], 0, END, EVERY) == EVERY


def test_an_outage_that_the_control_did_not_have_counts_in_full() -> None:
    assert outage_ns(steady((100, 150)), [steady()], 0, END, EVERY) == 52_000_000


def test_what_the_control_missed_in_the_same_moment_does_not_count() -> None:
    both = steady((100, 150))
    assert outage_ns(both, [both], 0, END, EVERY) == EVERY
    assert noise_ms([both], 0, END, EVERY) == 50.0


@pytest.mark.parametrize("noise", [(300, 400), (0, 90), (160, 900)])
def test_what_the_control_missed_at_another_moment_hides_nothing(noise: tuple[int, int]) -> None:
    assert outage_ns(steady((100, 150), noise), [steady(noise)], 0, END, EVERY) == 52_000_000


def test_only_the_part_that_the_control_missed_is_subtracted() -> None:
    assert outage_ns(steady((100, 150)), [steady((140, 200))], 0, END, EVERY) == 42_000_000


def test_controls_that_missed_the_same_are_subtracted_once() -> None:
    controls = [steady((110, 130)), steady((120, 140))]
    assert outage_ns(steady((100, 150)), controls, 0, END, EVERY) == 22_000_000


def test_no_answer_at_all_lasts_from_beginning_to_end() -> None:
    assert outage_ns([], [steady()], 0, END, EVERY) == END


def test_it_agrees_with_counting_every_instant() -> None:
    chance = random.Random(5)
    for _ in range(20):
        spans = [sorted(chance.sample(range(100), 2)) for _ in range(6)]
        vip, control = [
            [t for t in range(100) if not any(a <= t < b for a, b in part)] for part in (spans[:3], spans[3:])
        ]
        missed = {t for a, b in union((a + 1, b) for a, b in pairs(control)) for t in range(a, b)}
        wanted = max(sum(t not in missed for t in range(a, b)) for a, b in pairs(vip))
        assert outage_ns(vip, [control], 0, 100, 1) == wanted


def pairs(instants: list[int]) -> list[tuple[int, int]]:
    bounds = [0, *instants, 100]
    return list(itertools.pairwise(bounds))


def conversation(*answers: tuple[int, str]) -> list[Seen]:
    questions = [Seen(number * 20_000_000, "ask", 4, number, "-") for number in range(10)]
    return [*questions, *(Seen(number * 20_000_000 + 1, "reply", 4, number, mac) for number, mac in answers)]


def test_a_late_answer_belongs_to_its_question() -> None:
    late = Seen(199_000_000, "reply", 4, 1, "a")
    seen = [*conversation((0, "a"), (2, "b")), late]
    assert two_owners(seen, 0, END) == 0
    assert asked(seen, 0, END)[4, 1] == (20_000_000, {"a"})


def test_a_question_that_two_answered_has_two_owners() -> None:
    seen = conversation((0, "a"), (1, "a"), (1, "b"), (2, "b"))
    assert two_owners(seen, 0, END) == 1
    assert two_owners(seen, 40_000_000, END) == 0


def test_turns_are_an_overlap() -> None:
    assert overlap_ms(conversation((0, "a"), (1, "b"), (2, "a"), (3, "b")), "a", "b", 0, END) == 20.0
    assert overlap_ms(conversation((0, "a"), (1, "a"), (2, "b")), "a", "b", 0, END) == 0.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"two_owners": 1}, "two owners"),
        ({"owner": "A", "name": "lvs1"}, "A owns, wanted B"),
        ({"owner": "both"}, "both owns"),
        ({"outage_ms": 69.0}, "silent for 69 ms"),
    ],
)
def test_a_promise_that_is_broken_is_named(change: dict[str, object], words: str) -> None:
    row = Row("one", lambda _scene: None, "B", 0, 60)
    good: dict[str, object] = {
        "outage_ms": 68.0, "raw_ms": 70.0, "noise_ms": 1.0, "two_owners": 0, "overlap_ms": 0.0, "owner": "B",
        "name": "lvs2", "same_epoch": False,
    }  # fmt: skip
    found = problems(row, Outcome(**{**good, **change}), 600.0)  # type: ignore[arg-type]
    assert bool(found) == bool(words)
    assert words in "; ".join(found)
