"""The keeper: forks core and probers, waits for them, and starts anew what died.

Theory of operation
-------------------
Everything is imported and the configuration is read before the first fork, so that a dead core is back in the time
that a fork takes. The keeper has one thread and no event loop but the one below; it does nothing by itself that
could block, leak or crash. What is due for each child is decided by its `Ward`; this file does it.

When a child dies its leash is read to the end first: a core that accepted a new configuration sent it before it
applied it, and the next core must be born with it.

Whenever core or prober is born, every pair of core and prober of which one is new gets a new work channel.
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from hawatch.agent.child import CONSOLE, CONSOLE_KIND, CORE, ChildKind, fork_child, wanted_children
from hawatch.agent.link import leash_pair, receive_leash, send_leash, work_pair
from hawatch.agent.messages import (
    Adopt,
    AreYouThere,
    IAmHere,
    LeashMessage,
    Link,
    Listener,
    Reload,
    Stop,
    WantLink,
    WantListener,
    WorkerLost,
    WorkerStarted,
)
from hawatch.agent.process import describe_end, notify_service_manager
from hawatch.agent.runtime import give_to_group, make_directory, open_ctl_socket
from hawatch.agent.settings import Settings, now_ns, settings_from_file, settings_to_file
from hawatch.agent.ward import Ask, Command, Kill, Limits, Start, Ward, WardState
from hawatch.errors import LocalError, PeerError
from hawatch.model import NS_PER_MS, NS_PER_S

CORE_LIMITS = Limits(silence_ns=5 * NS_PER_S, good_ns=NS_PER_S // 2, first_delay_ns=0, delay_max_ns=NS_PER_S)
"""A core that has lived for half a second is back at once however often it dies: a lease waits for it."""
PROBER_LIMITS = Limits(silence_ns=3 * NS_PER_S, good_ns=60 * NS_PER_S)
CONSOLE_LIMITS = Limits(silence_ns=180 * NS_PER_S, good_ns=10 * NS_PER_S, delay_max_ns=2 * NS_PER_S)
"""Nothing waits for the console; a slow disk is no reason to kill it."""
LATE_NS = 250 * NS_PER_MS
"""A keeper that wakes up so much too late was stopped, and its children perhaps with it."""
CORE_STOP_MS = 5000
"""The core may take so long to end in good order."""
PROBER_STOP_MS = 2000
SLEEP_MAX_S = 3600.0


@dataclass(frozen=True, slots=True)
class Mains:
    """What the children do; each function returns when the child is to end."""

    core: Callable[[Settings, socket.socket, socket.socket], None]
    """Given the settings, its leash and the listening ctl socket."""
    prober: Callable[[socket.socket, str], None]
    """Given its leash and its name."""
    console: Callable[[Settings, socket.socket], None] | None = None
    """Given the settings and its leash; None: there is none."""


@dataclass(slots=True)
class Child:
    """A child, alive or to be."""

    kind: ChildKind
    ward: Ward
    leash: socket.socket | None = None
    wanted: bool = True
    """False: the configuration needs it no more, and it is on its way out."""
    planned: bool = False
    """Its end is our own wish: no event, no back-off."""
    reason: str = field(default="")
    """Why it ended last."""


class Keeper:
    """Supervises the children of one agent until it is told to stop."""

    def __init__(self, settings: Settings, mains: Mains, ctl_listener: socket.socket) -> None:
        self._settings = settings
        self._mains = mains
        self._ctl_listener = ctl_listener
        self._selector = selectors.DefaultSelector()
        self._wakeup_in, self._wakeup_out = socket.socketpair()
        self._children: dict[str, Child] = {}
        self._stop_at_ns: int | None = None
        """Set while stopping: what still lives then is killed."""
        self._probers_told = False
        self._signals: set[int] = set()

    def run(self) -> int:
        """Supervise; return the exit status when all children have ended."""
        self._take_signals()
        self._selector.register(self._wakeup_in, selectors.EVENT_READ)
        self._adopt(self._settings)
        gc.collect()
        gc.freeze()
        gc.enable()
        while self._children:
            now = now_ns()
            for child in list(self._children.values()):
                self._do(child, child.ward.tick(now))
            self._wait()
            self._handle_signals()
            self._reap()
            self._go_on_stopping()
        return 0

    # --- waiting ---------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Sleep until something is due or happens, and take in what the children say."""
        dues = [due for child in self._children.values() if (due := child.ward.due_ns()) is not None]
        if self._stop_at_ns is not None:
            dues.append(self._stop_at_ns)
        wake_at_ns = min(dues, default=now_ns() + int(SLEEP_MAX_S * NS_PER_S))
        # Without children that could wake us (all wait for their restart) this still ends in time.
        ready = self._selector.select(max(0.0, (wake_at_ns - now_ns()) / NS_PER_S))
        for key, _ in ready:
            if key.fileobj is self._wakeup_in:
                self._wakeup_in.recv(4096)
            else:
                self._listen(self._children[key.data])
        late_ns = now_ns() - wake_at_ns
        if late_ns > LATE_NS:
            for child in self._children.values():
                child.ward.forgive(late_ns)

    def _listen(self, child: Child) -> None:
        """Take in every packet that the child has sent."""
        while child.leash is not None:
            try:
                received = receive_leash(child.leash)
            except BlockingIOError:
                return
            except PeerError as error:
                self._kill(child, str(error))
                return
            if received is None:
                self._selector.unregister(child.leash)
                child.leash.close()
                child.leash = None
                return
            match received:
                case IAmHere(number=number), None:
                    child.ward.answered(number)
                case message, descriptor if child.kind.name == CORE and self._obey(child, message, descriptor):
                    pass
                case message, _:
                    self._kill(child, f"it sent {type(message).__name__}, which is not its to send")

    def _obey(self, core: Child, message: LeashMessage, descriptor: int | None) -> bool:
        """Do what the core asks for; False when that is not its to ask."""
        match message, descriptor:
            case Adopt(), int(descriptor):
                self._adopt(settings_from_file(descriptor))
                gc.freeze()
            case WantListener(), None:
                self._listen_anew()
            case WantLink(worker=name), None:
                if name in self._children and name != CORE:
                    self._connect(core, self._children[name])
            case _:
                return False
        return True

    def _listen_anew(self) -> None:
        """Make the ctl socket again, for this core and all to come: somebody has removed its file."""
        places, group = self._settings.places, self._settings.config.control.group
        try:
            make_directory(places.runtime_dir)
            listener = open_ctl_socket(places, group)
        except LocalError as error:
            _say(f"{error}; it is tried again")
            return
        self._ctl_listener.close()
        self._ctl_listener = listener
        self._tell_core(Listener(), listener.fileno())

    def _give_sockets(self, group: str) -> None:
        """Have the members of another group of users use the sockets. The core has seen to it that we may."""
        for path in (self._settings.places.ctl_socket, self._settings.places.console_socket):
            try:
                give_to_group(path, group)
            except FileNotFoundError:
                pass  # it is made with the right one
            except (LocalError, OSError) as error:
                _say(f"{path} stays with the group of users that it had: {error}")

    # --- children --------------------------------------------------------------------------------------------

    def _adopt(self, settings: Settings) -> None:
        """Have exactly the children that the settings need."""
        earlier, self._settings = self._settings, settings
        if settings.config.control != earlier.config.control:
            self._give_sockets(settings.config.control.group)
        wanted = wanted_children(settings.plan)
        if self._mains.console is not None:
            wanted[CONSOLE] = CONSOLE_KIND
        for name, kind in wanted.items():
            child = self._children.get(name)
            if child is None:
                limits = {CORE: CORE_LIMITS, CONSOLE: CONSOLE_LIMITS}.get(name, PROBER_LIMITS)
                self._children[name] = Child(kind, Ward(name, limits, now_ns()))
                continue
            if child.kind != kind:
                child.kind = kind
                self._end(child)
            child.wanted = True
            if name == CONSOLE:
                self._tell_console(child)
        for name, child in list(self._children.items()):
            if name not in wanted:
                child.wanted = False
                self._end(child)
                if not child.ward.pid:
                    del self._children[name]

    def _end(self, child: Child) -> None:
        """End a child because we want to; if it is still wanted it is started anew at once."""
        if child.ward.pid:
            child.planned = True
            _signal(child.ward.pid, signal.SIGKILL)

    def _do(self, child: Child, command: Command | None) -> None:
        match command:
            case Start():
                self._start(child)
            case Ask(number=number):
                if child.leash is not None:
                    send_leash(child.leash, AreYouThere(number))
            case Kill(reason=reason):
                self._kill(child, reason)
            case None:
                pass

    def _kill(self, child: Child, reason: str) -> None:
        child.ward.kill_reason = child.ward.kill_reason or reason
        if child.ward.pid:
            _signal(child.ward.pid, signal.SIGKILL)

    def _start(self, child: Child) -> None:
        name = child.ward.name
        try:
            ours, theirs = leash_pair()
        except OSError as error:
            self._not_born(child, f"there is no leash for {name}: {error.strerror}")
            return
        others = [other.leash for other in self._children.values() if other.leash is not None]
        close = [*others, ours, self._wakeup_in, self._wakeup_out]
        settings, mains, listener = self._settings, self._mains, self._ctl_listener

        def main() -> None:
            self._selector.close()
            if name == CORE:
                mains.core(settings, theirs, listener)
                return
            listener.close()
            if name == CONSOLE and mains.console is not None:
                mains.console(settings, theirs)
            else:
                mains.prober(theirs, name)

        try:
            pid = fork_child(child.kind, main, close)
        except OSError as error:
            ours.close()
            theirs.close()
            self._not_born(child, f"cannot fork {name}: {error.strerror}")
            return
        theirs.close()
        ours.setblocking(False)
        child.leash = ours
        child.ward.born(pid, now_ns())
        self._selector.register(ours, selectors.EVENT_READ, child.ward.name)
        self._introduce(child)

    def _not_born(self, child: Child, reason: str) -> None:
        """Note that a child could not be started: it is tried again, with back-off."""
        _say(reason)
        child.reason = reason
        child.ward.born(0, now_ns())
        child.ward.died(now_ns())

    def _introduce(self, child: Child) -> None:
        """Tell the core of the child, and connect it with those that it works with."""
        core = self._children[CORE]
        if child is not core:
            self._tell_core(WorkerStarted(child.ward.name, child.ward.pid, child.ward.restarts))
            self._connect(core, child)
            return
        if core.ward.restarts:
            self._tell_core(WorkerLost(CORE, core.reason, core.ward.restarts, 0))
        self._tell_core(WorkerStarted(CORE, core.ward.pid, core.ward.restarts))
        for other in self._children.values():
            if other is not core and other.ward.state is WardState.RUNNING:
                self._tell_core(WorkerStarted(other.ward.name, other.ward.pid, other.ward.restarts))
                self._connect(core, other)

    def _connect(self, core: Child, prober: Child) -> None:
        """Give both an end of a new work channel."""
        if core.leash is None or prober.leash is None:
            return
        try:
            pair = work_pair()
        except OSError as error:  # out of descriptors: it is tried again when the prober is born anew
            self._kill(prober, f"there was no work channel for it ({error.strerror})")
            return
        with _both(pair) as (core_end, prober_end):
            send_leash(core.leash, Link(prober.ward.name), core_end.fileno())
            send_leash(prober.leash, Link(CORE), prober_end.fileno())

    def _tell_console(self, child: Child) -> None:
        """Give the console the settings that are in force now."""
        if child.leash is None:
            return
        try:
            descriptor = settings_to_file(self._settings)
        except OSError as error:
            self._kill(child, f"there was no file for its settings ({error.strerror})")
            return
        try:
            if not send_leash(child.leash, Adopt(), descriptor):
                self._kill(child, "it took no new settings")
        finally:
            os.close(descriptor)

    def _tell_core(self, message: LeashMessage, descriptor: int | None = None) -> None:
        core = self._children.get(CORE)
        if core is not None and core.leash is not None:
            send_leash(core.leash, message, descriptor)

    # --- ends ------------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        """Take in which children have ended."""
        for child in list(self._children.values()):
            if child.ward.pid:
                pid, status = os.waitpid(child.ward.pid, os.WNOHANG)
                if pid:
                    self._buried(child, describe_end(status))

    def _buried(self, child: Child, how: str) -> None:
        # The process id is nobody's any more, or a stranger's: whatever its last words were, it is not to be signalled.
        child.ward.pid = 0
        self._listen(child)
        if child.leash is not None:
            self._selector.unregister(child.leash)
            child.leash.close()
            child.leash = None
        name, now = child.ward.name, now_ns()
        if self._stop_at_ns is not None or not child.wanted:
            del self._children[name]
            return
        if child.planned:
            restarts = child.ward.restarts
            child.planned, child.ward = False, Ward(name, child.ward.limits, now)
            child.ward.restarts = restarts
            return
        child.reason = f"{child.ward.kill_reason}, {how}" if child.ward.kill_reason else how
        delay_ns = child.ward.died(now)
        _say(f"{name} {child.reason}")
        if name != CORE:
            self._tell_core(WorkerLost(name, child.reason, child.ward.restarts, delay_ns // NS_PER_MS))

    # --- signals and the end ---------------------------------------------------------------------------------

    def _take_signals(self) -> None:
        self._wakeup_in.setblocking(False)
        self._wakeup_out.setblocking(False)
        signal.set_wakeup_fd(self._wakeup_out.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, self._note_signal)

    def _note_signal(self, number: int, _frame: object) -> None:
        self._signals.add(number)

    def _handle_signals(self) -> None:
        numbers, self._signals = self._signals, set()
        if signal.SIGHUP in numbers:
            self._tell_core(Reload())
        for number in (signal.SIGTERM, signal.SIGINT):
            if number in numbers and self._stop_at_ns is None:
                self._begin_stopping(signal.Signals(number).name)

    def _begin_stopping(self, reason: str) -> None:
        """End the core first: it lets go of what it owns while everything else still stands."""
        notify_service_manager(os.environ.get("NOTIFY_SOCKET", ""), "STOPPING=1")
        self._stop_at_ns = now_ns() + CORE_STOP_MS * NS_PER_MS
        self._tell_core(Stop(f"stopped by {reason}"))
        for name, child in list(self._children.items()):
            if child.ward.pid == 0:
                del self._children[name]

    def _go_on_stopping(self) -> None:
        if self._stop_at_ns is None:
            return
        if CORE not in self._children and not self._probers_told:
            self._probers_told = True
            self._stop_at_ns = now_ns() + PROBER_STOP_MS * NS_PER_MS
            for child in self._children.values():
                child.ward.kill_reason = "stopped"
                _signal(child.ward.pid, signal.SIGTERM)
        if now_ns() >= self._stop_at_ns:
            for name, child in self._children.items():
                if self._probers_told or name == CORE:
                    _signal(child.ward.pid, signal.SIGKILL)
            self._stop_at_ns = now_ns() + NS_PER_S


class _both:
    """Closes both sockets of a pair at the end of the block."""

    def __init__(self, pair: tuple[socket.socket, socket.socket]) -> None:
        self._pair = pair

    def __enter__(self) -> tuple[socket.socket, socket.socket]:
        return self._pair

    def __exit__(self, *_: object) -> None:
        for end in self._pair:
            end.close()


def _say(text: str) -> None:
    """Write a line to standard error, which never waits (see `hawatch.agent.output`)."""
    print(f"hawatch keeper: {text}", file=sys.stderr, flush=True)


def _signal(pid: int, number: int) -> None:
    """Signal a child that we have not waited for yet; its process id is still its own."""
    assert pid > 0, pid
    os.kill(pid, number)
