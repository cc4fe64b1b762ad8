from __future__ import annotations

from hawatch.agent.measures import CheckCounts
from hawatch.agent.runner import run_probe
from hawatch.agent.watched import Watched, watch
from hawatch.health.verdict import CheckJudge
from hawatch.model import NS_PER_S, Check, CheckState, Route, Verdict
from hawatch.plugin import Attempt


def watched(state: CheckState = CheckState.UNKNOWN, **changes: object) -> Watched:
    values = {
        "id": "a", "type": "tcp", "options": {}, "address": "127.0.0.1", "port": 1, "interval_ns": NS_PER_S,
        "timeout_ns": NS_PER_S, "rise": 1, "fall": 1,
    }  # fmt: skip
    check = Check(**(values | changes))
    return watch(check, CheckJudge(check, Verdict("a", state), 1, 1))


def test_what_was_counted() -> None:
    one = watched(CheckState.UP)
    one.all_runs, one.all_failures = 3, 1
    one.latencies.note(30_000)
    one.latencies.note(9_000_000)
    found = one.counts()
    assert isinstance(found, CheckCounts)
    assert (found.check, found.up, found.runs, found.failures) == ("a", 1, 3, 1)
    assert (found.latency.counts, found.latency.sum_us) == ([0, 0, 0, 1, 0, 0, 0, 0, 1], 9_030_000)
    assert [watched(state).counts().up for state in (CheckState.DOWN, CheckState.UNKNOWN)] == [0, -1]


def test_the_lanes() -> None:
    assert watched().fast
    assert watched(type="ping", port=None).echo is not None
    assert watched(address="127.0.0.2").family == watched().family


async def test_a_probe_that_cannot_be_made_fails_and_says_why() -> None:
    one = watched(type="carrier-pigeon")
    outcome = await run_probe(one.probe, Attempt(NS_PER_S))
    assert not outcome.result.ok
    assert "carrier-pigeon" in outcome.result.reason


def test_a_check_with_a_way_of_its_own() -> None:
    route = Route(("127.0.0.9",))
    assert watched(route=route).probe.target.route == route
    assert watched(route=route).fast
    assert watched(type="ping", port=None, route=route).echo is None
    assert [watched(route=one).whom for one in (None, route, Route(mark=7))] == ["127.0.0.1"] * 2 + [
        "127.0.0.1 (mark 7)"
    ]
