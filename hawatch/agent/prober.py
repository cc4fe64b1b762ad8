"""The prober: the process that looks at the servers.

Theory of operation. One task starts what the schedule says is due, a tick at a time; conversations without TLS go to
the fast lane, everything else runs in a task of its own, of which there are a limited number. Each result is judged
at once; verdicts that change are told to the core at once, numbers for people every `SUMMARY_S`.

The core may die and come back: on a new work channel it says what is to be checked and what it knows, and we answer
with everything that we know. Without a channel we go on as before. When the leash breaks, the keeper is gone, and so
are we.

When this process itself is held up (stopped, starved, or blocked by a plug-in), failures seen then are discarded: they
tell of us and not of the servers. So are those of runs for which this machine had no descriptor, memory or local port
left, or no such interface or address; where that goes on, the core tells of it. What succeeded is believed. So is a
failure after `DOUBTS_MAX` of the same check in a row that were put down to a pause: a process that is late all the time
would else never take a server out.
"""

from __future__ import annotations

import gc
import logging
import select
import socket
import time
from collections.abc import Iterable
from random import Random

import msgspec
import trio

from hawatch.agent.link import FrameSplitter, frame, receive_leash, send_leash
from hawatch.agent.measures import (
    Counted,
    ProbeCounts,
    WantCounts,
)
from hawatch.agent.messages import AreYouThere, Assign, CheckSummary, IAmHere, Link, Summary, Verdicts, WorkMessage
from hawatch.agent.ping_lane import PingLane
from hawatch.agent.runner import boottime_ns, fit, run_probe
from hawatch.agent.stream_lane import StreamLane
from hawatch.agent.watched import Watched, watch
from hawatch.errors import PeerError
from hawatch.health.schedule import TICK_NS, Schedule, Slot
from hawatch.health.verdict import CheckJudge
from hawatch.model import NS_PER_MS, NS_PER_S, Check, Verdict
from hawatch.plugin import Attempt, Probe, Result

SUMMARY_S = 2.0
PAUSE_NS = 50 * NS_PER_MS
"""A wake-up later than this is a pause of ours."""
PAUSE_SHARE = 4
"""A pause matters to a run from a quarter of its timeout on."""
PAUSE_BLAME_NS = NS_PER_S // 4
"""Failures so soon after a pause are put down to it, beside those of runs that were under way in it."""
DOUBTS_MAX = 5
"""Failures of a check in a row that are put down to pauses of ours."""
TASKS_LIMIT = 256
"""Runs at once that need a task of their own; more wait for their next turn."""
CONVERSATIONS_LIMIT = 8192
"""Conversations at once on the fast lane."""
SLEEP_NS_MAX = NS_PER_S
ANSWER_WAIT_MS = 2
"""After starts on the lanes so long is waited right there: a wake-up by trio costs five times a plain one."""
POLL_NS_MIN = 2 * NS_PER_MS
"""The lanes are looked at so soon after that or an answer, then after twice as long, up to a tick."""
READ_BYTES = 1 << 20
QUEUE_LIMIT = 64
"""Messages to the core that wait while it does not read; then the channel is given up, and a new one tells all."""

MADE_AT_ONCE = 100
"""Probes made before other work has its turn: some milliseconds."""
COUNTS_PER_PART = 200
"""Checks whose counts are told at once, unless there are very many."""
PARTS_MAX = QUEUE_LIMIT // 4


_encode = msgspec.msgpack.Encoder().encode
logger = logging.getLogger(__name__)


class Prober:
    """The state of one prober."""

    def __init__(self, salt: str) -> None:
        self.watched: dict[str, Watched] = {}
        self.schedule = Schedule(salt, Random())
        self.lane = StreamLane(self.take)
        self.pings = PingLane(self.take)
        self.discarded = 0
        self.all_discarded = 0
        self.tasks = 0
        self._assignments = 0
        self._families: dict[str, dict[str, Watched]] = {}
        self._changed: dict[str, Verdict] = {}
        self._weights: dict[str, int] = {}
        """Changed since the core was told."""
        self._wake = trio.Event()
        self._clock = select.poll()
        """Watches nothing, and so is a wait of a given time."""
        self._pause_end_ns = 0
        self._pace_ns = POLL_NS_MIN
        self._pause_ns = 0
        """How long the last pause was."""
        self._outbox: trio.MemorySendChannel[WorkMessage] | None = None

    # --- assignments -----------------------------------------------------------------------------------------

    async def assign(self, checks: Iterable[Check], known: Iterable[Verdict]) -> bool:
        """Run exactly these checks; False when others were assigned meanwhile. Verdicts of ours win over `known`.

        To make ten thousand probes takes a second or more on a slow machine: other work has its turn in between.
        """
        self._assignments += 1
        number = self._assignments
        told = {verdict.check: verdict for verdict in known}
        now_ns, wall_ns = boottime_ns(), time.time_ns()
        kept: dict[str, Watched] = {}
        for check in checks:
            if len(kept) % MADE_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
                if number != self._assignments:
                    return False
            old = self.watched.get(check.id)
            if old is not None and (old.check == check or _same_question(old.check, check)):
                old.check = check
                old.judge.reschedule(check)
                kept[check.id] = old
            else:
                kept[check.id] = watch(check, CheckJudge(check, told.get(check.id), now_ns, wall_ns))
        self.watched = kept
        self._families = {}
        for watched in kept.values():
            self._families.setdefault(watched.family, {})[watched.whom] = watched
        self.schedule.assign((one.check for one in kept.values()), boottime_ns())  # all that took its time
        gc.freeze()
        self._wake.set()
        return True

    def verdicts(self) -> list[Verdict]:
        """Return everything known."""
        return [one.judge.verdict for one in self.watched.values()]

    def weights(self) -> dict[str, int]:
        """Return the weights that checks ask for."""
        return {name: one.weight for name, one in self.watched.items() if one.weight is not None and one.weight >= 0}

    # --- running ---------------------------------------------------------------------------------------------

    async def run(self, nursery: trio.Nursery) -> None:
        """Start what is due, for ever."""
        while True:
            await self._sleep()
            due = self.schedule.take_due(boottime_ns())
            if due and self._start(due, nursery):
                self._clock.poll(ANSWER_WAIT_MS)
            moved = self.lane.poll() | self.pings.poll() | bool(due)
            now_ns = boottime_ns()
            self.lane.expire(now_ns)
            self.pings.expire(now_ns)
            self._pace_ns = POLL_NS_MIN if moved else min(2 * self._pace_ns, TICK_NS)
            self._tell_changes()

    async def _sleep(self) -> None:
        """Wait for the next tick at which there is something to do, and notice when that came late."""
        now_ns = boottime_ns()
        until_ns = now_ns + SLEEP_NS_MAX
        poll_ns = now_ns + self._pace_ns if len(self.lane) or len(self.pings) else None
        for candidate_ns in (self.schedule.next_due_ns(), poll_ns):
            if candidate_ns is not None and candidate_ns < until_ns:
                until_ns = candidate_ns
        self._wake = trio.Event()
        with trio.move_on_after(max(0, until_ns - now_ns) / NS_PER_S):
            await self._wake.wait()
        woken_ns = boottime_ns()
        if woken_ns - until_ns > PAUSE_NS:
            self._pause_end_ns = woken_ns
            self._pause_ns = woken_ns - until_ns

    def _start(self, due: list[Slot], nursery: trio.Nursery) -> bool:
        """Start what is due; tell whether any of it went to a lane."""
        under_way = len(self.pings)
        fast: list[tuple[Slot, Probe]] = []
        room = CONVERSATIONS_LIMIT - len(self.lane)
        for slot in due:
            watched = self.watched.get(slot.check.id)
            if watched is None:
                self.schedule.finish(slot)
            elif watched.echo is not None:
                self.pings.start(slot, watched.echo)
            elif watched.fast and len(fast) < room:
                fast.append((slot, watched.probe))
            elif not watched.fast and self.tasks < TASKS_LIMIT:
                self.tasks += 1
                nursery.start_soon(self._run_task, slot, watched)
            else:
                self.schedule.finish(slot)
                self.schedule.skipped += 1
        if fast:
            self.lane.start(fast)
        return bool(fast) or len(self.pings) > under_way

    async def _run_task(self, slot: Slot, watched: Watched) -> None:
        siblings = {
            address: other.facts
            for address, other in self._families.get(watched.family, {}).items()
            if other is not watched and other.facts
        }
        try:
            outcome = await run_probe(watched.probe, Attempt(slot.check.timeout_ns, siblings))
        finally:
            self.tasks -= 1
        self.take(slot, outcome.result, outcome.started_ns, outcome.finished_ns)
        self._wake.set()

    # --- results ---------------------------------------------------------------------------------------------

    def take(self, slot: Slot, result: Result, started_ns: int, finished_ns: int) -> None:
        """Judge one result."""
        self.schedule.finish(slot)
        watched = self.watched.get(slot.check.id)
        if watched is None:
            return
        if watched.check.plugin:
            result = fit(result)
        watched.runs += 1
        watched.all_runs += 1
        watched.inconclusive = watched.inconclusive + 1 if result.inconclusive and not result.ok else 0
        if result.ok:
            watched.latency_us = (finished_ns - started_ns) // 1000
            watched.latencies.note(watched.latency_us)
            watched.last_reason = ""
            watched.doubted = 0
            if result.facts or watched.facts:
                watched.facts = dict(result.facts)
            weight = -1 if result.weight is None else result.weight
            if weight != watched.weight:
                watched.weight = self._weights[slot.check.id] = weight
                self._wake.set()
        else:
            watched.failures += 1
            watched.all_failures += 1
            watched.last_reason = result.reason
            ours = watched.doubted < DOUBTS_MAX and self._is_our_fault(slot, started_ns, finished_ns)
            if result.inconclusive or ours:
                watched.doubted += ours
                self.discarded += 1
                self.all_discarded += 1
                return
        verdict = watched.judge.take(
            ok=result.ok, reason=result.reason or "the probe gave no reason", now_ns=finished_ns, wall_ns=time.time_ns()
        )
        if verdict is not None:
            if not self._changed:
                self._wake.set()
            self._changed[verdict.check] = verdict

    def _is_our_fault(self, slot: Slot, started_ns: int, finished_ns: int) -> bool:
        """Tell whether a failure may come of our own pause: it was under way in it, or its time-out came late."""
        enough_ns = max(PAUSE_NS, slot.check.timeout_ns // PAUSE_SHARE)
        in_pause = started_ns <= self._pause_end_ns and finished_ns < self._pause_end_ns + PAUSE_BLAME_NS
        if in_pause and self._pause_ns > enough_ns:
            return True
        return finished_ns - started_ns - slot.check.timeout_ns > enough_ns

    # --- telling the core ------------------------------------------------------------------------------------

    def _tell_changes(self) -> None:
        if (self._changed or self._weights) and self._outbox is not None:
            self._send(Verdicts(list(self._changed.values()), weights=dict(self._weights)))
        self._changed.clear()
        self._weights.clear()

    def _send(self, message: WorkMessage) -> None:
        if self._outbox is None:
            return
        try:
            self._outbox.send_nowait(message)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            self._outbox.close()
            self._outbox = None

    def summary(self) -> Summary:
        """Return the numbers since the last summary, and begin anew."""
        rows = [
            CheckSummary(one.check.id, one.runs, one.failures, one.latency_us, one.last_reason, one.inconclusive)
            for one in self.watched.values()
            if one.runs
        ]
        for one in self.watched.values():
            one.runs = one.failures = 0
        message = Summary(
            rows, self.schedule.late_ns_max / NS_PER_MS, self.discarded, self.tasks + len(self.lane) + len(self.pings)
        )
        self.schedule.late_ns_max = self.discarded = 0
        return message

    async def summarize(self) -> None:
        """Send a summary every now and then."""
        while True:
            await trio.sleep(SUMMARY_S)
            self._send(self.summary())

    async def work(self, end: socket.socket) -> None:
        """Speak with the core over a new work channel, until it ends."""
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(end))
        outbox, inbox = trio.open_memory_channel[WorkMessage](QUEUE_LIMIT)
        earlier, self._outbox = self._outbox, outbox
        if earlier is not None:
            earlier.close()
        async with stream, inbox:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_forward, inbox, stream, nursery.cancel_scope)
                    await self._listen(stream)
                    nursery.cancel_scope.cancel()
            except* (trio.BrokenResourceError, trio.ClosedResourceError, PeerError) as errors:
                logger.warning("the channel to the core is closed: %s", errors.exceptions[0])
        if self._outbox is outbox:
            self._outbox = None

    async def _listen(self, stream: trio.SocketStream) -> None:
        splitter = FrameSplitter()
        while data := await stream.receive_some(READ_BYTES):
            for message in splitter.feed(bytes(data)):
                match message:
                    case Assign():
                        if await self.assign(message.checks, message.known):
                            self._changed.clear()
                            self._weights.clear()
                            self._send(Verdicts(self.verdicts(), complete=True, weights=self.weights()))
                    case WantCounts(number=number):
                        await self._tell_counts(number)
                    case _:
                        raise PeerError(f"the core sent {type(message).__name__}")

    async def _tell_counts(self, number: int) -> None:
        """Answer a question for what was counted, part by part; not when the core does not read."""
        watched = list(self.watched.values())
        size = max(COUNTS_PER_PART, -(-len(watched) // PARTS_MAX))
        for begin in range(0, max(1, len(watched)), size):
            part = ProbeCounts(
                [one.counts() for one in watched[begin : begin + size]],
                self.schedule.late,
                self.schedule.skipped,
                self.all_discarded,
            )
            if self._outbox is None or self._outbox.statistics().current_buffer_used > QUEUE_LIMIT // 2:
                return
            self._send(Counted(number, _encode(part), last=begin + size >= len(watched)))
            await trio.lowlevel.checkpoint()


async def _forward(
    inbox: trio.MemoryReceiveChannel[WorkMessage], stream: trio.SocketStream, channel: trio.CancelScope
) -> None:
    try:
        async for message in inbox:
            await stream.send_all(frame(message))
    except trio.BrokenResourceError:
        pass
    channel.cancel()


def _same_question(one: Check, other: Check) -> bool:
    return (one.type, one.options, one.address, one.port) == (other.type, other.options, other.address, other.port)


async def _obey(leash: socket.socket, prober: Prober, nursery: trio.Nursery) -> None:
    """Answer the keeper and take new work channels; return when the keeper is gone."""
    while True:
        await trio.lowlevel.wait_readable(leash)
        try:
            received = receive_leash(leash)
        except BlockingIOError:
            continue
        if received is None:
            return
        message, descriptor = received
        match message:
            case AreYouThere(number=number):
                send_leash(leash, IAmHere(number))
            case Link() if descriptor is not None:
                end = socket.socket(fileno=descriptor)
                end.setblocking(False)
                nursery.start_soon(prober.work, end)
            case _:
                logger.warning("the keeper sent %s", type(message).__name__)


def prober_main(leash: socket.socket, name: str, node: str) -> None:
    """Be a prober: returns when the keeper is gone. Each node has its own moments for the same checks."""
    leash.setblocking(False)
    logging.basicConfig(format=f"hawatch {name}: %(message)s", level=logging.INFO)
    gc.collect()
    gc.freeze()

    async def main() -> None:
        prober = Prober(node)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(prober.run, nursery)
            nursery.start_soon(prober.summarize)
            await _obey(leash, prober, nursery)
            nursery.cancel_scope.cancel()

    trio.run(main)
