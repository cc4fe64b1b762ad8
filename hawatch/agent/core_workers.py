"""What the core knows of its workers, and of the servers from them.

A worker's last verdicts stand while it is gone. On each new work channel the core says first what is to be checked
and what it knows; the worker answers with everything that it knows, which wins.
"""

from __future__ import annotations

import socket
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec
import trio

from hawatch.agent.child import CONSOLE, CORE, PLUGINS, PROBER, wanted_children
from hawatch.agent.link import AnyWork, FrameSplitter, frame
from hawatch.agent.measures import Counted, WantCounts
from hawatch.agent.messages import Assign, CheckSummary, Summary, Verdicts, WorkerLost, WorkerStarted
from hawatch.errors import PeerError
from hawatch.model import Check, CheckState, Event, Plan, Severity, Verdict

READ_BYTES = 1 << 18
SUMMARIES_REMEMBERED = 30
"""About a minute."""
HINDERED_RUNS = 5
"""A check of which so many runs in a row failed because of this machine is told of."""
HINDRANCES_SHOWN_MAX = 5
"""Different reasons of that which the status spells out."""
RELINK_S = 1.0
"""A channel that broke is asked for anew after so long."""


class WorkerState(StrEnum):
    """State of a worker as status shows it."""

    STARTING = "starting"
    RUNNING = "running"
    LOST = "lost"


@dataclass(slots=True)
class Worker:
    """One process of the agent as the core knows it."""

    name: str
    state: WorkerState = WorkerState.STARTING
    pid: int = 0
    restarts: int = 0
    reason: str = ""
    lost_wall_ns: int = 0
    complete: bool = False
    """It has told all that it knows since the core was born."""
    late_ms: deque[float] = field(default_factory=lambda: deque(maxlen=SUMMARIES_REMEMBERED))
    """How late its latest start was, of each of the last summaries."""
    discarded: int = 0
    in_flight: int = 0
    assign: trio.Event = field(default_factory=trio.Event)
    """Set when it must be told anew what to check."""
    ask: trio.Event = field(default_factory=trio.Event)
    """Set when it must be asked what it counts."""
    question: int = 0
    """The number of that question."""


class Workers:
    """The workers of one core, the verdicts they gave, and what they told besides."""

    def __init__(
        self,
        plan: Plan,
        emit: Callable[[Iterable[Event]], None],
        changed: Callable[[Iterable[str]], None],
        wall_clock: Callable[[], int],
        want_link: Callable[[str], object],
        counted: Callable[[str, Counted], None] = lambda worker, message: None,
    ) -> None:
        """`counted` is given what a worker answers to `ask_counts`."""
        self.verdicts: dict[str, Verdict] = {}
        self.summaries: dict[str, CheckSummary] = {}
        self.weights: dict[str, int] = {}
        """Weights that checks asked for."""
        self.hindrances: dict[str, str] = {}
        """Why this machine cannot run a check, by check: its verdict, if any, is not looked after."""
        self.by_name: dict[str, Worker] = {}
        self._emit = emit
        self._changed = changed
        self._wall_clock = wall_clock
        self._want_link = want_link
        self._counted = counted
        self._plan = plan
        self._channels: dict[str, trio.CancelScope] = {}
        self.set_plan(plan)

    def set_plan(self, plan: Plan) -> None:
        """Have the workers check what this plan asks; verdicts of checks that it does not have are forgotten."""
        self._plan = plan
        self.verdicts = {check: verdict for check, verdict in self.verdicts.items() if check in plan.checks}
        self.summaries = {check: summary for check, summary in self.summaries.items() if check in plan.checks}
        self.weights = {check: weight for check, weight in self.weights.items() if check in plan.checks}
        self.hindrances = {check: reason for check, reason in self.hindrances.items() if check in plan.checks}
        wanted = wanted_children(plan)
        for name in wanted:
            self.by_name.setdefault(name, Worker(name)).assign.set()
        for name in list(self.by_name):
            if name not in wanted and name != CONSOLE:
                del self.by_name[name]
                if scope := self._channels.pop(name, None):
                    scope.cancel()

    def problems(self) -> list[str]:
        """Return why checks cannot be run, a sentence each."""
        counts = Counter(self.hindrances.values()).most_common()
        more = [f"{len(counts) - HINDRANCES_SHOWN_MAX} more reasons why checks cannot be run"]
        return [_hindrance_text(count, reason) for reason, count in counts[:HINDRANCES_SHOWN_MAX]] + (
            more if len(counts) > HINDRANCES_SHOWN_MAX else []
        )

    def all_complete(self) -> bool:
        """Tell whether every worker that probes has told what it knows."""
        return all(worker.complete for name, worker in self.by_name.items() if name not in (CORE, CONSOLE))

    def ask_counts(self, number: int) -> list[str]:
        """Have every worker that has a channel tell what it counts; return their names."""
        asked = [name for name in self.by_name if name in self._channels and self.by_name[name].complete]
        for name in asked:
            self.by_name[name].question = number
            self.by_name[name].ask.set()
        return asked

    # --- what the keeper tells -------------------------------------------------------------------------------

    def lost(self, message: WorkerLost) -> None:
        """The keeper says that a worker died."""
        worker = self.by_name.get(message.worker)
        if worker is None:
            return
        worker.state, worker.pid, worker.restarts = WorkerState.LOST, 0, message.restarts
        worker.reason, worker.lost_wall_ns = message.reason, self._wall_clock()
        if worker.name == CORE:
            reason = f"the core before this one ended: {message.reason}; the kernel's tables are as it left them"
        elif worker.name == CONSOLE:
            reason = f"{worker.name} {message.reason}: journal and alerts wait until it is back"
        else:
            delay = f"in {message.restart_in_ms} ms" if message.restart_in_ms else "at once"
            reason = f"{worker.name} {message.reason}: its servers keep their last states; it is started again {delay}"
        numbers: dict[str, int | float | str] = {
            "worker": message.worker,
            "restarts": message.restarts,
            "restart_in_ms": message.restart_in_ms,
        }
        self._emit([Event("worker_lost", reason, Severity.WARNING, numbers=numbers)])

    def started(self, message: WorkerStarted) -> None:
        """The keeper says that a worker runs."""
        worker = self.by_name.setdefault(message.worker, Worker(message.worker))
        again = worker.state is WorkerState.LOST
        worker.state, worker.pid, worker.restarts = WorkerState.RUNNING, message.pid, message.restarts
        worker.reason = ""
        if again:
            reason = f"{worker.name} runs again as process {message.pid}"
            numbers: dict[str, int | float | str] = {
                "worker": message.worker,
                "pid": message.pid,
                "restarts": message.restarts,
            }
            self._emit([Event("worker_restarted", reason, numbers=numbers)])

    # --- work channels ---------------------------------------------------------------------------------------

    async def work(self, name: str, descriptor: int) -> None:
        """Talk with a worker over a new work channel until it ends or is replaced."""
        end = socket.socket(fileno=descriptor)
        end.setblocking(False)
        worker = self.by_name.get(name)
        if worker is None:
            end.close()
            return
        worker.assign.set()
        worker.ask = trio.Event()
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(end))
        with trio.CancelScope() as scope:
            if earlier := self._channels.get(name):
                earlier.cancel()
            self._channels[name] = scope
            async with stream, trio.open_nursery() as nursery:
                sending = trio.Lock()
                nursery.start_soon(self._tell, worker, stream, sending, nursery.cancel_scope)
                nursery.start_soon(self._ask, worker, stream, sending, nursery.cancel_scope)
                await self._hear(worker, stream)
                nursery.cancel_scope.cancel()
        if self._channels.get(name) is scope:
            del self._channels[name]
            # Where the worker died the keeper makes a new channel with its successor; where it lives, we ask.
            await trio.sleep(RELINK_S)
            if name in self.by_name and name not in self._channels:
                self._want_link(name)

    async def _tell(
        self, worker: Worker, stream: trio.SocketStream, sending: trio.Lock, channel: trio.CancelScope
    ) -> None:
        """Send the assignment, and again whenever it changes: always the newest one, however slow the worker."""
        try:
            while True:
                await worker.assign.wait()
                worker.assign = trio.Event()
                async with sending:
                    await stream.send_all(frame(self.assignment(worker.name)))
        except trio.BrokenResourceError:
            channel.cancel()

    async def _ask(
        self, worker: Worker, stream: trio.SocketStream, sending: trio.Lock, channel: trio.CancelScope
    ) -> None:
        """Ask what it counts, when somebody wants to know."""
        try:
            while True:
                await worker.ask.wait()
                worker.ask = trio.Event()
                async with sending:
                    await stream.send_all(frame(WantCounts(worker.question)))
        except trio.BrokenResourceError:
            channel.cancel()

    def assignment(self, name: str) -> Assign:
        """Return what a worker is to check, and what is known of it."""
        checks: list[Check] = []
        if name in (PROBER, PLUGINS):
            checks = [check for check in self._plan.checks.values() if check.plugin is (name == PLUGINS)]
        known = [self.verdicts[check.id] for check in checks if check.id in self.verdicts]
        return Assign(checks, known)

    async def _hear(self, worker: Worker, stream: trio.SocketStream) -> None:
        """Take in what the worker sends until its end of the channel is gone, as it is when the worker dies."""
        splitter = FrameSplitter()
        while data := await _receive(stream):
            try:
                for message in splitter.feed(data):
                    self._take(worker, message)
                    await trio.lowlevel.checkpoint()
            except PeerError as error:
                reason = f"{worker.name} sent what is no message: {error}; its channel is closed"
                self._emit([Event("worker_lost", reason, Severity.WARNING, numbers={"worker": worker.name})])
                return

    def _take(self, worker: Worker, message: AnyWork) -> None:
        match message:
            case Verdicts():
                self._take_verdicts(worker, message)
            case Summary():
                worker.late_ms.append(message.late_ms_max)
                worker.discarded += message.discarded
                worker.in_flight = message.in_flight
                self._take_summaries(message.checks)
            case Counted():
                self._counted(worker.name, message)
            case Assign() | WantCounts():
                raise PeerError(f"{type(message).__name__} is the core's to send")

    def _take_verdicts(self, worker: Worker, message: Verdicts) -> None:
        changed: list[str] = []
        for verdict in message.verdicts:
            if verdict.check not in self._plan.checks:
                continue
            if verdict.state is CheckState.UNKNOWN and message.complete and self._knows(verdict.check):
                continue  # told before the assignment with our verdict reached it
            if self.verdicts.get(verdict.check) != verdict:
                self.verdicts[verdict.check] = verdict
                changed.append(verdict.check)
        changed += self._take_weights(message.weights)
        news = message.complete and not worker.complete
        worker.complete = worker.complete or message.complete
        if changed or news:
            self._changed(changed)

    def _knows(self, check: str) -> bool:
        verdict = self.verdicts.get(check)
        return verdict is not None and verdict.state is not CheckState.UNKNOWN

    def _take_weights(self, weights: Mapping[str, int]) -> list[str]:
        """Take in what checks ask for; return those that ask for something else than before."""
        changed = []
        for check, weight in weights.items():
            if check in self._plan.checks and weight != self.weights.get(check, -1):
                changed.append(check)
                if weight >= 0:
                    self.weights[check] = weight
                else:
                    del self.weights[check]
        return changed

    def _take_summaries(self, summaries: Iterable[CheckSummary]) -> None:
        before_all = self.hindrances
        self.hindrances = dict(before_all)
        for summary in summaries:
            check = summary.check
            if check not in self._plan.checks:
                continue
            before = self.summaries.get(check)
            if summary.latency_us < 0 and before is not None:
                summary = msgspec.structs.replace(summary, latency_us=before.latency_us)
            self.summaries[check] = summary
            self.hindrances.pop(check, None)
            if summary.inconclusive >= HINDERED_RUNS:
                self.hindrances[check] = summary.last_reason
        if self.hindrances != before_all:
            self._tell_hindrances(set(before_all.values()))
            self._changed(before_all.keys() | self.hindrances.keys())

    def _tell_hindrances(self, known: set[str]) -> None:
        """Tell of each reason why checks cannot be run once, however many there are of them."""
        for reason, count in Counter(self.hindrances.values()).items():
            if reason not in known:
                self._emit([Event("probe_hindered", _hindrance_text(count, reason), Severity.WARNING)])


def _hindrance_text(count: int, reason: str) -> str:
    checks = "1 check" if count == 1 else f"{count} checks"
    return f"{checks} cannot be run from this machine ({reason}): what is known of the servers stays as it was"


async def _receive(stream: trio.SocketStream) -> bytes:
    """Return the next bytes; none when the other end is gone, in good order or not."""
    try:
        return bytes(await stream.receive_some(READ_BYTES))
    except trio.BrokenResourceError:
        return b""
