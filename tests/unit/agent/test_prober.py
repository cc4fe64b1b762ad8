"""The prober's judgement of results, and its talk with the core."""

from __future__ import annotations

import socket
from functools import partial

import msgspec
import pytest
import trio

from hawatch.agent.link import FrameSplitter, frame, leash_pair, receive_leash, send_leash, work_pair
from hawatch.agent.measures import ProbeCounts, WantCounts
from hawatch.agent.messages import AreYouThere, Assign, IAmHere, Link, Summary, Verdicts
from hawatch.agent.prober import COUNTS_PER_PART, DOUBTS_MAX, MADE_AT_ONCE, PARTS_MAX, PAUSE_NS, Prober, _obey
from hawatch.agent.runner import boottime_ns
from hawatch.model import NS_PER_MS, NS_PER_S, Check, CheckState, Verdict
from hawatch.plugin import Result, down, up


def check(port: int, name: str = "a", interval_ms: int = 100, **changes: object) -> Check:
    values = {
        "id": name, "type": "tcp", "options": {}, "address": "127.0.0.1", "port": port, "rise": 1, "fall": 2,
        "interval_ns": interval_ms * NS_PER_MS, "timeout_ns": interval_ms * NS_PER_MS,
    }  # fmt: skip
    return Check(**(values | changes))


@pytest.fixture
async def prober():
    return Prober("salt")


def started(prober: Prober) -> object:
    """Return the slot of a check that is under way."""
    return prober.schedule.take_due(prober.schedule.next_due_ns())[0]


async def test_failures_that_come_of_our_own_pause_do_not_count(prober):
    await prober.assign([check(1, fall=1)], [Verdict("a", CheckState.UP)])
    slot = started(prober)
    now_ns = boottime_ns()
    prober._pause_end_ns, prober._pause_ns = now_ns, PAUSE_NS + 1
    prober.take(slot, down("no answer"), now_ns - NS_PER_S, now_ns + 1)
    assert prober.discarded == 1
    late_ns = now_ns + 9 * NS_PER_S
    prober.take(slot, down("no answer"), late_ns, late_ns + 100 * NS_PER_MS + PAUSE_NS + 1)
    assert prober.discarded == 2
    prober._pause_ns = PAUSE_NS - 1
    assert prober.verdicts()[0].state is CheckState.UP
    prober.take(slot, up(), now_ns - NS_PER_S, now_ns + 1)
    prober.take(slot, down("refused"), late_ns, late_ns + 1)
    assert (prober.verdicts()[0].state, prober.verdicts()[0].reason) == (CheckState.DOWN, "refused")


@pytest.mark.parametrize(
    ("pause_ms", "started_ms", "finished_ms", "timeout_ms", "ours"),
    [
        (51, -30, 1, 100, True),  # it was under way in the pause
        (50, -30, 1, 100, False),  # too short to matter
        (251, -30, 1, 1000, True),
        (250, -30, 1, 1000, False),  # a quarter of the timeout is the least
        (60, 0, 249, 1000, False),
        (300, 0, 249, 1000, True),  # it began before we went on, and ended soon after
        (300, 0, 250, 1000, False),  # not so soon
        (300, 1, 249, 1000, False),  # it began after the pause
        (0, 1, 151, 100, False),
        (0, 1, 152, 100, True),  # its time-out came late
        (0, 1, 1251, 1000, False),
        (0, 1, 1252, 1000, True),
    ],
)
async def test_which_failures_are_put_down_to_a_pause(prober, pause_ms, started_ms, finished_ms, timeout_ms, ours):
    """Instants count from the end of the pause."""
    await prober.assign([check(1, timeout_ns=timeout_ms * NS_PER_MS)], [Verdict("a", CheckState.UP)])
    slot = started(prober)
    end_ns = boottime_ns()
    prober._pause_end_ns, prober._pause_ns = end_ns, pause_ms * NS_PER_MS
    prober.take(slot, down("refused"), end_ns + started_ms * NS_PER_MS, end_ns + finished_ms * NS_PER_MS)
    assert prober.discarded == ours


async def test_one_that_is_late_all_the_time_believes_a_failure_in_the_end(prober):
    await prober.assign([check(1, fall=2)], [Verdict("a", CheckState.UP)])
    slot = started(prober)

    def fail(result: Result) -> CheckState:
        now_ns = boottime_ns()
        prober._pause_end_ns, prober._pause_ns = now_ns, NS_PER_S
        prober.take(slot, result, now_ns - NS_PER_S, now_ns + 1)
        return prober.verdicts()[0].state

    assert [fail(down("no answer")) for _ in range(DOUBTS_MAX)] == [CheckState.UP] * DOUBTS_MAX
    fail(up())
    assert [fail(down("no answer")) for _ in range(DOUBTS_MAX + 1)] == [CheckState.UP] * (DOUBTS_MAX + 1)
    assert fail(down("no answer")) is CheckState.DOWN
    assert prober.discarded == 2 * DOUBTS_MAX
    fail(up())
    fail(up())
    ours = Result(ok=False, reason="no descriptor left", inconclusive=True)
    assert [fail(ours) for _ in range(3 * DOUBTS_MAX)] == [prober.verdicts()[0].state] * 3 * DOUBTS_MAX


async def test_runs_that_this_machine_makes_fail_are_counted_until_one_counts(prober):
    await prober.assign([check(1)], [Verdict("a", CheckState.UP)])
    slot = started(prober)
    ours = Result(ok=False, reason="no such device", inconclusive=True)

    def told(result: Result) -> tuple[int, str]:
        prober.take(slot, result, boottime_ns(), boottime_ns())
        (row,) = prober.summary().checks
        return row.inconclusive, row.last_reason

    assert [told(ours) for _ in range(3)] == [(1, "no such device"), (2, "no such device"), (3, "no such device")]
    assert told(down("refused")) == (0, "refused")
    assert told(ours) == (1, "no such device")
    assert told(up()) == (0, "")


async def test_what_the_core_knew_is_gone_on_from_and_our_own_wins(prober):
    await prober.assign([check(1)], [Verdict("a", CheckState.UP, since_wall_ns=7)])
    assert prober.verdicts() == [Verdict("a", CheckState.UP, since_wall_ns=7)]
    await prober.assign([check(1), check(2, "b")], [Verdict("a", CheckState.DOWN, "old news")])
    assert [one.state for one in prober.verdicts()] == [CheckState.UP, CheckState.UNKNOWN]


async def test_a_probe_that_cannot_be_made_fails_with_the_reason(prober):
    await prober.assign([check(1, type="nosuch")], [])
    (watched,) = prober.watched.values()
    result = await watched.probe.run(None)
    assert "nosuch" in result.reason


async def test_other_work_has_its_turn_while_many_checks_are_taken_in_and_the_latest_assignment_counts(prober):
    turns = 0

    async def work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    many = [check(1, f"c{number}") for number in range(10 * MADE_AT_ONCE)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        await prober.assign(many, [])
        assert turns >= 5
        assert len(prober.watched) == len(prober.schedule) == len(many)
        outdone = []

        async def be_outdone() -> None:
            outdone.append(await prober.assign(many, []))

        nursery.start_soon(be_outdone)
        while prober._assignments < 2:
            await trio.lowlevel.checkpoint()
        assert await prober.assign([check(1)], [])
        for _ in range(50):
            await trio.lowlevel.checkpoint()
        assert list(prober.watched) == ["a"]
        assert outdone == [False]
        nursery.cancel_scope.cancel()


async def test_a_summary_is_told_once(prober):
    await prober.assign([check(1)], [])
    slot = started(prober)
    prober.take(slot, up(), 1000, 3_000_000)
    prober.take(slot, down("refused"), 1000, 2000)
    (row,) = prober.summary().checks
    assert (row.runs, row.failures, row.latency_us, row.last_reason) == (2, 1, 2999, "refused")
    assert prober.summary().checks == []


async def test_a_weight_lasts_until_a_good_run_asks_for_another(prober):
    await prober.assign([check(1)], [Verdict("a", CheckState.UP)])
    slot = started(prober)
    told = []
    for result in (up(), Result(ok=True, weight=0), down("refused"), Result(ok=True, weight=0), up()):
        prober.take(slot, result, 1000, 2000)
        told.append((dict(prober._weights), prober.weights()))
        prober._tell_changes()
    assert told == [({"a": -1}, {}), ({"a": 0}, {"a": 0}), ({}, {"a": 0}), ({}, {"a": 0}), ({"a": -1}, {})]


async def test_a_plug_ins_result_is_made_fit_before_it_is_told(prober):
    await prober.assign([check(1, fall=1, plugin=True)], [Verdict("a", CheckState.UP)])
    slot, now_ns = started(prober), boottime_ns()
    prober.take(slot, down("\udcff" * 5000), now_ns, now_ns)
    prober.take(slot, Result(ok=True, weight=10**30), now_ns, now_ns)
    msgspec.msgpack.encode(prober.verdicts())
    assert prober.verdicts()[0].reason == f"the probe asked for weight {10**30}, wanted 0 to 65535"
    assert prober.weights() == {}


async def hear(end: socket.socket, splitter: FrameSplitter, kind: type) -> object:
    """Return the next message of a kind from the prober."""
    stream = trio.socket.from_stdlib_socket(end)
    while True:
        for message in splitter.feed(await stream.recv(65536)):
            if isinstance(message, kind):
                return message


async def test_a_server_that_fails_and_comes_back_is_told_at_once_over_each_new_channel(prober):
    leash, theirs = leash_pair()
    theirs.setblocking(False)
    leash.setblocking(False)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(prober.run, nursery)
            nursery.start_soon(prober.summarize)
            nursery.start_soon(partial(_obey, theirs, prober, nursery))
            ours, other = work_pair()
            ours.setblocking(False)
            send_leash(leash, Link("core"), other.fileno())
            other.close()
            splitter = FrameSplitter()
            ours.sendall(frame(Assign([check(port)], [])))
            first = await hear(ours, splitter, Verdicts)
            assert (first.complete, first.verdicts[0].state) == (True, CheckState.UNKNOWN)
            assert (await hear(ours, splitter, Verdicts)).verdicts[0].state is CheckState.UP
            listener.close()
            told = await hear(ours, splitter, Verdicts)
            assert (told.verdicts[0].state, told.verdicts[0].reason) == (CheckState.DOWN, "connection refused")
            ours.close()
            ours, other = work_pair()
            ours.setblocking(False)
            send_leash(leash, Link("core"), other.fileno())
            other.close()
            ours.sendall(frame(Assign([check(port)], [Verdict("a", CheckState.UP)])))
            snapshot = await hear(ours, FrameSplitter(), Verdicts)
            assert (snapshot.complete, snapshot.verdicts[0].state) == (True, CheckState.DOWN)
            assert (await hear(ours, FrameSplitter(), Summary)).checks[0].failures > 0
            send_leash(leash, AreYouThere(5))
            await trio.lowlevel.wait_readable(leash)
            assert receive_leash(leash) == (IAmHere(5), None)
            nursery.cancel_scope.cancel()
    for end in (leash, theirs, ours):
        end.close()


async def test_what_it_counts_is_told_in_parts_when_it_is_asked(prober, nursery):
    checks = [check(1, f"c{number}") for number in range(PARTS_MAX * COUNTS_PER_PART + 1)]
    await prober.assign(checks, [Verdict("c0", CheckState.DOWN)])
    slot = prober.schedule.slot("c0")
    now_ns = boottime_ns()
    prober.take(slot, up(), now_ns, now_ns + 30 * NS_PER_MS)
    prober.take(slot, down("refused"), now_ns, now_ns + 1)
    prober.summary()
    ours, theirs = work_pair()
    for end in (ours, theirs):
        end.setblocking(False)
    nursery.start_soon(prober.work, theirs)
    stream, splitter, parts = trio.SocketStream(trio.socket.from_stdlib_socket(ours)), FrameSplitter(), []
    await stream.send_all(frame(WantCounts(5)))
    with trio.fail_after(20):
        while not parts or not parts[-1].last:
            parts += splitter.feed(bytes(await stream.receive_some(1 << 16)))
    assert 1 < len(parts) <= PARTS_MAX
    assert {part.number for part in parts} == {5}
    told = [msgspec.msgpack.decode(part.data, type=ProbeCounts) for part in parts]
    rows = {row.check: row for part in told for row in part.checks}
    assert set(rows) == {one.id for one in checks}
    assert (rows["c0"].up, rows["c0"].runs, rows["c0"].failures) == (1, 2, 1)
    assert (sum(rows["c0"].latency.counts), rows["c0"].latency.counts[4], rows["c0"].latency.sum_us) == (1, 0, 30_000)
    assert rows["c1"].up == -1
    await stream.aclose()
