from __future__ import annotations

import socket
from collections.abc import Iterable

import trio
import trio.testing

from hawatch.agent.core_workers import HINDERED_RUNS, HINDRANCES_SHOWN_MAX, RELINK_S, Workers, WorkerState
from hawatch.agent.link import FrameSplitter, frame, work_pair
from hawatch.agent.measures import Counted, WantCounts
from hawatch.agent.messages import Assign, CheckSummary, Summary, Verdicts, WorkerLost, WorkerStarted
from hawatch.model import Check, CheckState, Event, Plan, Severity, Verdict

UP, DOWN, UNKNOWN = CheckState.UP, CheckState.DOWN, CheckState.UNKNOWN


def check(name: str, *, plugin: bool = False) -> Check:
    return Check(name, "tcp", {}, "192.0.2.1", 80, 10**9, 10**9, 1, 1, plugin=plugin)


def plan(*checks: Check) -> Plan:
    return Plan((), {one.id: one for one in checks})


class Site:
    """Workers, and what they told."""

    def __init__(self, *checks: Check) -> None:
        self.events: list[str] = []
        self.told: list[Event] = []
        self.changed: list[str] = []
        self.wanted: list[str] = []
        self.workers = Workers(plan(*checks), self.emit, self.changed.extend, lambda: 7, self.wanted.append)

    def emit(self, events: Iterable[Event]) -> None:
        for event in events:
            self.told.append(event)
            self.events.append(event.name)


class Prober:
    """The other end of a work channel."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.stream = trio.SocketStream(trio.socket.from_stdlib_socket(end))
        self._splitter = FrameSplitter()

    async def assigned(self) -> Assign:
        while True:
            for message in self._splitter.feed(bytes(await self.stream.receive_some(1 << 16))):
                assert isinstance(message, Assign)
                return message

    async def say(self, message: Verdicts | Summary) -> None:
        await self.stream.send_all(frame(message))
        await trio.testing.wait_all_tasks_blocked(0.01)


def connect(site: Site, nursery: trio.Nursery, name: str = "prober") -> Prober:
    ours, theirs = work_pair()
    nursery.start_soon(site.workers.work, name, ours.detach())
    return Prober(theirs)


async def test_the_core_learns_what_the_prober_knows_and_tells_a_new_one(nursery: trio.Nursery) -> None:
    site = Site(check("a"), check("b"))
    prober = connect(site, nursery)
    assert await prober.assigned() == Assign([check("a"), check("b")], [])
    assert not site.workers.all_complete()
    known = [Verdict("a", DOWN, "refused", 3), Verdict("b", UP), Verdict("of an earlier plan", UP)]
    await prober.say(Verdicts(known, complete=True))
    assert site.workers.all_complete()
    assert site.workers.verdicts == {"a": known[0], "b": known[1]}
    assert site.changed == ["a", "b"]
    await prober.stream.aclose()
    again = connect(site, nursery)
    assert await again.assigned() == Assign([check("a"), check("b")], known[:2])
    await again.stream.aclose()


async def test_a_prober_that_knows_nothing_yet_takes_no_verdict_back(nursery: trio.Nursery) -> None:
    site = Site(check("a"))
    prober = connect(site, nursery)
    await prober.say(Verdicts([Verdict("a", UP)], complete=True))
    await prober.say(Verdicts([Verdict("a", UNKNOWN)], complete=True))
    assert site.workers.verdicts["a"].state is UP
    await prober.stream.aclose()


async def test_each_prober_has_its_own_checks_and_a_new_plan_is_told(nursery: trio.Nursery) -> None:
    site = Site(check("a"), check("b", plugin=True))
    prober, plugins = connect(site, nursery), connect(site, nursery, "prober-plugins")
    assert [one.id for one in (await prober.assigned()).checks] == ["a"]
    assert [one.id for one in (await plugins.assigned()).checks] == ["b"]
    await prober.say(Verdicts([Verdict("a", UP)], complete=True))
    site.workers.set_plan(plan(check("c")))
    assert [one.id for one in (await prober.assigned()).checks] == ["c"]
    assert site.workers.verdicts == {}
    assert list(site.workers.by_name) == ["core", "prober"]
    assert await plugins.stream.receive_some(1) == b""
    for one in (prober, plugins):
        await one.stream.aclose()


async def test_bytes_that_are_no_message_end_the_channel_and_a_new_one_is_asked_for(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    site = Site(check("a"))
    prober = connect(site, nursery)
    await prober.assigned()
    await prober.stream.send_all(b"\0\0\0\1x")
    assert await prober.stream.receive_some(1) == b""
    assert site.events == ["worker_lost"]
    assert site.wanted == []
    await trio.sleep(2 * RELINK_S)
    assert site.wanted == ["prober"]
    await prober.stream.aclose()


async def test_a_prober_that_dies_with_its_assignment_unread_does_not_end_the_core(nursery: trio.Nursery) -> None:
    site = Site(check("a"))
    prober = connect(site, nursery)
    await trio.testing.wait_all_tasks_blocked(0.01)
    prober.stream.socket.close()  # with unread bytes: the other end gets a reset, not an end
    await trio.testing.wait_all_tasks_blocked(0.01)
    again = connect(site, nursery)
    assert [one.id for one in (await again.assigned()).checks] == ["a"]
    await again.stream.aclose()


async def test_weights_come_with_the_verdicts_and_stay_until_others_come(nursery: trio.Nursery) -> None:
    site = Site(check("a"), check("b"))
    prober = connect(site, nursery)
    await prober.say(Verdicts([Verdict("a", UP)], complete=True, weights={"a": 5, "x": 1}))
    assert site.workers.weights == {"a": 5}
    assert site.changed == ["a", "a"]
    await prober.say(Verdicts([], weights={"b": 0}))
    await prober.say(Verdicts([Verdict("a", UP)], complete=True))
    assert site.workers.weights == {"a": 5, "b": 0}
    await prober.say(Verdicts([], weights={"a": -1, "b": -1}))
    assert site.workers.weights == {}
    assert site.changed == ["a", "a", "b", "a", "b"]
    await prober.stream.aclose()


async def test_summaries_keep_the_last_latency(nursery: trio.Nursery) -> None:
    site = Site(check("a"))
    prober = connect(site, nursery)
    await prober.say(Summary([CheckSummary("a", 2, 0, 800, ""), CheckSummary("x", 1, 0, 1, "")], 1.5, 3, 2))
    await prober.say(Summary([CheckSummary("a", 2, 2, -1, "refused")], 0.5, 4, 1))
    assert site.workers.summaries["a"] == CheckSummary("a", 2, 2, 800, "refused")
    await prober.say(Summary([CheckSummary("a", 1, 0, 700, "")], 0.5, 0, 1))
    worker = site.workers.by_name["prober"]
    assert (list(worker.late_ms), worker.discarded, worker.in_flight) == ([1.5, 0.5, 0.5], 7, 1)
    await prober.stream.aclose()


def test_what_the_keeper_tells() -> None:
    site = Site()
    workers = site.workers
    workers.started(WorkerStarted("prober", 11, 0))
    assert site.events == []
    workers.lost(WorkerLost("prober", "killed by SIGKILL", 1, 50))
    worker = workers.by_name["prober"]
    assert (worker.state, worker.pid, worker.lost_wall_ns) == (WorkerState.LOST, 0, 7)
    workers.started(WorkerStarted("prober", 12, 1))
    assert (worker.state, worker.pid, worker.restarts) == (WorkerState.RUNNING, 12, 1)
    workers.lost(WorkerLost("unheard of", "", 1, 0))
    assert site.events == ["worker_lost", "worker_restarted"]


async def test_what_a_prober_counts_is_asked_for_and_passed_on(nursery: trio.Nursery) -> None:
    site = Site(check("a"))
    passed: list[tuple[str, Counted]] = []
    site.workers = Workers(plan(check("a")), site.emit, list, lambda: 7, list, lambda *words: passed.append(words))
    assert site.workers.ask_counts(1) == []
    prober = connect(site, nursery)
    await prober.assigned()
    assert site.workers.ask_counts(1) == [], "it has not told what it knows"
    await prober.say(Verdicts([], complete=True))
    assert site.workers.ask_counts(2) == ["prober"]
    splitter = FrameSplitter()
    (asked,) = splitter.feed(bytes(await prober.stream.receive_some(1 << 16)))
    assert asked == WantCounts(2)
    answer = Counted(2, b"not looked into", last=True)
    await prober.say(answer)
    assert passed == [("prober", answer)]
    await prober.stream.aclose()


async def test_checks_that_this_machine_cannot_run_are_told_of_once_a_reason(nursery: trio.Nursery) -> None:
    site = Site(check("a"), check("b"), check("c"))
    prober = connect(site, nursery)

    async def say(runs: int, reason: str, *names: str) -> None:
        await prober.say(Summary([CheckSummary(name, 1, 1, -1, reason, runs) for name in names], 0.5, 0, 2))

    await say(HINDERED_RUNS - 1, "no such device", "a", "b")
    assert (site.events, site.workers.problems(), site.changed) == ([], [], [])
    await say(HINDERED_RUNS, "no such device", "a", "b")
    assert site.events == ["probe_hindered"]
    assert site.workers.problems() == [
        "2 checks cannot be run from this machine (no such device): what is known of the servers stays as it was"
    ]
    assert site.workers.hindrances == {"a": "no such device", "b": "no such device"}
    assert sorted(site.changed) == ["a", "b"]
    (event,) = site.told
    assert (event.reason, event.severity) == (site.workers.problems()[0], Severity.WARNING)
    await say(HINDERED_RUNS + 1, "no such device", "a", "b", "c")
    assert site.events == ["probe_hindered"]
    site.changed.clear()
    await say(HINDERED_RUNS + 2, "no such device", "a", "b", "c")
    assert site.changed == [], "nothing is new"
    await say(0, "", "a", "b")
    assert site.workers.hindrances == {"c": "no such device"}
    assert {"a", "b"} <= set(site.changed)
    assert site.workers.problems()[0].startswith("1 check cannot be run from this machine (no such device): ")
    await say(0, "", "c")
    await say(HINDERED_RUNS, "no such device", "a")
    assert site.events == ["probe_hindered"] * 2, "it is told anew when it begins anew"
    site.workers.set_plan(plan(check("b")))
    assert site.workers.problems() == []
    await prober.stream.aclose()


async def test_of_many_reasons_why_checks_cannot_be_run_each_is_told_and_the_status_spells_out_a_few(
    nursery: trio.Nursery,
) -> None:
    count = HINDRANCES_SHOWN_MAX
    names = [f"c{number}" for number in range(count + 3)]
    site = Site(*(check(name) for name in names))
    prober = connect(site, nursery)
    reasons = dict(zip(names, ["r0", *(f"r{number}" for number in range(count + 2))], strict=True))

    async def say(*hindered: str) -> None:
        rows = [CheckSummary(name, 1, 1, -1, reasons.get(name, "?"), HINDERED_RUNS) for name in hindered]
        await prober.say(Summary(rows, 0.5, 0, 2))

    await say(*names[: count + 1], "of an earlier plan")
    told = [event.reason for event in site.told]
    assert site.events == ["probe_hindered"] * count
    assert [reason.partition(":")[0] for reason in told] == [
        "2 checks cannot be run from this machine (r0)",
        *(f"1 check cannot be run from this machine (r{number})" for number in range(1, count)),
    ]
    assert site.workers.problems() == told
    await say(*names[count + 1 :])
    assert len(site.events) == count + 2
    assert site.workers.problems() == [*told, "2 more reasons why checks cannot be run"]
    reasons["c0"] = "another one"
    await say("c0")
    assert "(another one)" in site.told[-1].reason
    await prober.stream.aclose()
