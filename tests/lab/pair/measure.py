"""What a client lived through, from what was written down; no I/O but the reading of files.

Theory of operation. A pinger asks the VIP and, in the same moment, a control: an address that nothing befalls. Where
the control was not answered either, nobody can say anything about the VIP: the machine was busy, or the pinger did not
run. So an outage is the time from one answer of the VIP to the next, less what the control missed in between. What
is left is the VIP's own, to within one period of asking; without any failure it is about one period.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from tests.lab.pair.arp import Seen

NS_PER_MS = 1_000_000
Span = tuple[int, int]
"""From and until, in ns."""


def read_answers(path: Path) -> dict[str, list[int]]:
    """Return when each address of a pinger was heard, by its name; a last line that is not complete is left out."""
    found: dict[str, list[int]] = {}
    if path.exists():
        for line in path.read_text(encoding="ascii").split("\n")[:-1]:
            name, _sent, received = line.split("\t")
            found.setdefault(name, []).append(int(received))
    return found


def gaps(instants: Iterable[int], start_ns: int, end_ns: int) -> list[Span]:
    """Return the times between two answers in a row in [start, end], whose bounds count as answers."""
    inside = sorted(each for each in instants if start_ns <= each < end_ns)
    return list(pairwise([start_ns, *inside, end_ns]))


def overdue(instants: Iterable[int], start_ns: int, end_ns: int, every_ns: int) -> list[Span]:
    """Return when answers were due and did not come: from one period after an answer to the next answer."""
    return [(first + every_ns, last) for first, last in gaps(instants, start_ns, end_ns) if last - first > every_ns]


def union(spans: Iterable[Span]) -> list[Span]:
    """Return spans that cover the same instants and do not overlap, in order."""
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(last, found[-1][1])
        else:
            found.append((first, last))
    return found


def outage_ns(
    answers: Sequence[int], controls: Iterable[Sequence[int]], start_ns: int, end_ns: int, every_ns: int
) -> int:
    """Return the longest time without an answer in [start, end], less what the controls missed in it."""
    noise = union(span for control in controls for span in overdue(control, start_ns, end_ns, every_ns))

    ends = [last for _first, last in noise]

    def own(gap: Span) -> int:
        first, last = gap
        missed = 0
        at = bisect_right(ends, first)
        while at < len(noise) and noise[at][0] < last:
            missed += min(last, noise[at][1]) - max(first, noise[at][0])
            at += 1
        return last - first - missed

    return max(own(gap) for gap in gaps(answers, start_ns, end_ns))


def noise_ms(controls: Iterable[Sequence[int]], start_ns: int, end_ns: int, every_ns: int) -> float:
    """Return the longest that a control was overdue."""
    spans = union(span for control in controls for span in overdue(control, start_ns, end_ns, every_ns))
    return max((last - first for first, last in spans), default=0) / NS_PER_MS


def asked(seen: Iterable[Seen], start_ns: int, end_ns: int) -> dict[tuple[int, int], tuple[int, set[str]]]:
    """Return the questions asked in [start, end): for each (family, number) when, and who answered it."""
    found: dict[tuple[int, int], tuple[int, set[str]]] = {}
    for one in seen:
        key = one.family, one.number
        if one.what == "ask" and start_ns <= one.time_ns < end_ns:
            found[key] = one.time_ns, set()
        elif one.what == "reply" and key in found:
            found[key][1].add(one.mac)
    return found


def two_owners(seen: Iterable[Seen], start_ns: int, end_ns: int) -> int:
    """Return how many questions asked in [start, end) were answered by more than one machine."""
    return sum(len(macs) > 1 for _, macs in asked(seen, start_ns, end_ns).values())


def overlap_ms(seen: Iterable[Seen], old: str, new: str, start_ns: int, end_ns: int) -> float:
    """Return the time from the first question that `new` answered to the last one that `old` did; 0 if it was before."""
    questions = asked(seen, start_ns, end_ns).values()
    firsts = [time_ns for time_ns, macs in questions if new in macs]
    lasts = [time_ns for time_ns, macs in questions if old in macs]
    return max(0.0, (max(lasts) - min(firsts)) / NS_PER_MS) if firsts and lasts else 0.0
