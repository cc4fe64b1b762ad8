from __future__ import annotations

import os
import resource
import select
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hawatch.agent.keeper import Keeper, Mains
from hawatch.agent.link import leash_pair, send_leash
from hawatch.agent.messages import Stop
from hawatch.agent.places import Places
from hawatch.agent.priority import PROBER_NICE
from hawatch.agent.settings import Settings, now_ns
from hawatch.config.schema import Config
from hawatch.model import Plan

ROOT = Path(__file__).resolve().parents[3]


class Site:
    """A keeper as a process, and what its children say."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.agent.keeper_site"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, bufsize=0,
        )  # fmt: skip
        self.lines: list[str] = []
        self._rest = b""

    def wait_for(self, *texts: str) -> list[str]:
        """Read until each text has been said, in whatever order; return what was said."""
        start, missing = len(self.lines), list(texts)
        assert self.process.stdout is not None
        while missing:
            while b"\n" not in self._rest:
                data = self.process.stdout.read(4096)
                assert data, f"ended before it said {missing}; said {self.lines}"
                self._rest += data
            raw, self._rest = self._rest.split(b"\n", 1)
            line = raw.decode()
            self.lines.append(line)
            for text in missing:
                if line.startswith(text):
                    missing.remove(text)
                    break
        return self.lines[start:]

    def pid_of(self, name: str) -> int:
        """Return the process id of the last child of a name."""
        return next(int(line.split()[2]) for line in reversed(self.lines) if line.startswith(f"{name} born"))

    def order(self, letter: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(letter.encode())


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()
    try:
        found.wait_for("core@lvs1 born", "prober born", "prober heard", "core@lvs1 got WorkerStarted prober")
        yield found
    finally:
        found.process.kill()
        found.process.communicate()


def test_core_and_prober_are_introduced(site: Site) -> None:
    said = [line for line in site.lines if line.startswith("core@lvs1 got")]
    assert said[:2] == ["core@lvs1 got WorkerStarted core 0", "core@lvs1 got WorkerStarted prober 0"]
    assert "prober heard core@lvs1" in site.lines


@pytest.mark.netns
def test_the_prober_comes_before_ordinary_processes(site: Site) -> None:
    assert os.getpriority(os.PRIO_PROCESS, site.pid_of("prober")) == PROBER_NICE
    assert os.getpriority(os.PRIO_PROCESS, site.process.pid) == os.getpriority(os.PRIO_PROCESS, 0)


def test_a_core_looks_for_garbage_among_its_own_objects_only(site: Site) -> None:
    """What the keeper imported is frozen: a collection, however full, goes through little and is soon over."""
    site.order("g")
    _, how, frozen, others = site.wait_for("gc ")[-1].split()
    assert how == "on"
    assert int(frozen) > 10_000
    assert int(others) < int(frozen) // 10


@pytest.mark.slow
def test_a_killed_core_is_back_at_once_and_linked_anew_ten_times(site: Site) -> None:
    for number in range(1, 11):
        os.kill(site.pid_of("core@lvs1"), signal.SIGKILL)
        said = site.wait_for("core@lvs1 born", f"core@lvs1 got WorkerStarted core {number}", "prober heard core@lvs1")
        assert f"core@lvs1 got WorkerLost core {number}" in said
    assert site.lines.count("prober born") <= 1


def test_a_child_whose_last_words_are_not_its_to_say_is_buried_and_not_signalled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = leash_pair()
    pid = os.fork()
    if pid == 0:
        send_leash(theirs, Stop("nonsense"))
        os._exit(7)
    theirs.close()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    places = Places(tmp_path, tmp_path, tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        keeper = Keeper(Settings(Config(), Plan((), {}), "lvs1", "", places), Mains(print, print), listener)
        keeper._adopt(keeper._settings)
        core = keeper._children["core"]
        core.leash = ours
        core.ward.born(pid, now_ns())
        keeper._selector.register(ours, selectors.EVENT_READ, "core")
        keeper._reap()
        for end in (keeper._wakeup_in, keeper._wakeup_out, keeper._selector):
            end.close()
    assert core.ward.restarts == 1
    assert core.leash is None
    assert "it sent Stop, which is not its to send" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_prober_is_told_of_and_restarted(site: Site) -> None:
    os.kill(site.pid_of("prober"), signal.SIGKILL)
    said = site.wait_for("core@lvs1 got WorkerLost prober 1", "prober born", "core@lvs1 got Link prober")
    assert next(line for line in said if line.startswith("core@lvs1 got Worker")) == "core@lvs1 got WorkerLost prober 1"
    assert not [line for line in said if line.startswith("core@lvs1 born")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["prober", "core@lvs1"])
def test_a_keeper_without_free_descriptors_tries_again(site: Site, name: str) -> None:
    before = resource.prlimit(site.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(site.process.pid, resource.RLIMIT_NOFILE, (3, before[1]))
    os.kill(site.pid_of(name), signal.SIGKILL)
    assert site.process.stderr is not None
    told = b""
    while b"there is no leash for" not in told:
        data = site.process.stderr.read(4096)
        assert data, told
        told += data
    resource.prlimit(site.process.pid, resource.RLIMIT_NOFILE, before)
    site.wait_for(f"{name} born", "prober heard")


def test_a_stopped_prober_is_killed_and_restarted(site: Site) -> None:
    before = site.pid_of("prober")
    os.kill(before, signal.SIGSTOP)
    site.wait_for("core@lvs1 got WorkerLost prober 1", "prober born")
    assert site.pid_of("prober") != before


@pytest.mark.slow
def test_a_pause_of_the_keeper_is_not_counted_against_the_children(site: Site) -> None:
    """Everything stops for longer than a prober may be silent, and goes on."""
    pids = [site.process.pid, site.pid_of("core@lvs1"), site.pid_of("prober")]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    with subprocess.Popen(["sleep", "4"]) as pause:
        pause.wait()
    os.kill(site.process.pid, signal.SIGCONT)
    with subprocess.Popen(["sleep", "0.5"]) as pause:
        pause.wait()
    for pid in pids[1:]:
        os.kill(pid, signal.SIGCONT)
    os.kill(site.process.pid, signal.SIGHUP)
    said = site.wait_for("core@lvs1 got Reload")
    assert said == ["core@lvs1 got Reload  "]


def lives(pid: int) -> bool:
    """Tell whether a process exists and has not ended; one that is ending closes its pipes before it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_children_die_with_the_keeper(site: Site) -> None:
    pids = [site.pid_of("core@lvs1"), site.pid_of("prober")]
    site.process.kill()
    assert site.process.stdout is not None
    site.process.stdout.read()  # ends when nobody holds the pipe any more
    for pid in pids:
        deadline = time.monotonic() + 10
        while lives(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not lives(pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_orderly_end(site: Site, number: signal.Signals) -> None:
    site.process.send_signal(number)
    site.wait_for("core@lvs1 got Stop")
    assert site.process.wait(10) == 0


@pytest.mark.slow
def test_a_core_that_does_not_end_is_killed(site: Site) -> None:
    os.kill(site.pid_of("core@lvs1"), signal.SIGSTOP)
    site.process.send_signal(signal.SIGTERM)
    assert site.process.wait(20) == 0


@pytest.mark.slow
def test_new_settings_bring_workers_and_take_them_away(site: Site) -> None:
    site.order("p")
    site.wait_for("prober-plugins born", "core@lvs1 got WorkerStarted prober-plugins 0", "prober-plugins heard core")
    os.kill(site.pid_of("core@lvs1"), signal.SIGKILL)
    site.wait_for("core@lvs2 born", "prober heard core@lvs2", "prober-plugins heard core@lvs2")
    plugins = site.pid_of("prober-plugins")
    with_end = os.pidfd_open(plugins)
    site.order("n")
    assert select.select([with_end], [], [])[0]
    os.close(with_end)
    os.kill(site.pid_of("core@lvs2"), signal.SIGKILL)
    said = site.wait_for("core@lvs3 born", "prober heard core@lvs3")
    assert not [line for line in said if line.startswith("prober-plugins heard")]


@pytest.mark.slow
def test_a_prober_that_needs_another_capability_is_replaced_without_a_word(site: Site) -> None:
    site.order("r")
    said = site.wait_for("prober born", "prober heard core@lvs1")
    assert not [line for line in said if "WorkerLost" in line]
    assert "core@lvs1 got WorkerStarted prober 0" in site.lines[-6:]


def test_a_broken_channel_is_made_anew_when_the_core_asks(site: Site) -> None:
    site.order("w")
    said = site.wait_for("core@lvs1 got Link prober", "prober heard core@lvs1")
    assert not [line for line in said if "born" in line]
