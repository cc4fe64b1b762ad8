from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from hawatch.model import NS_PER_MS, NS_PER_S
from hawatch.probes import processes
from hawatch.probes.processes import OUTPUT_LIMIT, Run, children, kill_forgotten, run_program

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


async def run_shell(script: str, time_ns: int = 20 * NS_PER_S, *, merge: bool = False) -> Run:
    run = Run()
    await run_program(["/bin/sh", "-c", script], ENVIRONMENT, run, time_ns=time_ns, merge=merge)
    return run


@pytest.fixture
def others() -> set[int]:
    """Return the children that this process has before the test: real daemons of other tests may be among them."""
    return set(children())


def left_behind(others: set[int]) -> set[int]:
    return set(children()) - others


async def read_pid(path: Path) -> int:
    """Wait for a process id to be written."""
    with trio.fail_after(10):
        while not (path.exists() and path.read_text().endswith("\n")):
            await trio.sleep(0.002)
    return int(path.read_text())


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_output_and_status() -> None:
    run = await run_shell("echo out; echo err >&2; exit 3")
    assert (bytes(run.output), bytes(run.errors), run.status) == (b"out\n", b"err\n", 3)
    run = await run_shell("echo out; echo err >&2", merge=True)
    assert (bytes(run.output), bytes(run.errors), run.status) == (b"out\nerr\n", b"", 0)


@pytest.mark.netns
async def test_a_raised_priority_is_not_inherited() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, -10)
    try:
        run = await run_shell("sleep 0.2; nice")
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)
    assert bytes(run.output) == b"0\n"


async def test_killed_by_a_signal() -> None:
    assert (await run_shell("kill -SEGV $$")).status == -signal.SIGSEGV


async def test_nothing_on_standard_input_and_a_session_of_its_own() -> None:
    run = await run_shell("cat; ps -o sid= -p $$; echo $$; pwd; env | sort | grep -v HAWATCH_RUN")
    session, pid, directory, *environment = bytes(run.output).decode().split()
    assert session == pid
    assert directory == "/"
    assert environment == ["PATH=/usr/bin:/bin", "PWD=/"]


@pytest.mark.parametrize("command", ["/nowhere/program", "/etc/passwd"])
async def test_cannot_be_started(command: str) -> None:
    with pytest.raises(OSError):
        await run_program([command], ENVIRONMENT, Run(), time_ns=NS_PER_S, merge=False)


async def test_endless_output_is_cut() -> None:
    run = await run_shell("exec yes")
    assert run.too_much
    assert OUTPUT_LIMIT < len(run.output) <= 2 * OUTPUT_LIMIT


async def test_output_of_one_that_ends_at_once_is_complete() -> None:
    run = await run_shell("head -c 60000 /dev/zero")
    assert len(run.output) == 60000


async def test_terminated_first_and_killed_when_that_does_not_help(tmp_path: Path) -> None:
    polite = await run_shell("trap 'echo bye; exit 0' TERM; echo hi; while :; do sleep 0.01; done", 200 * NS_PER_MS)
    assert polite.terminated
    assert bytes(polite.output) == b"hi\nbye\n"
    stubborn = Run()
    script = f"trap '' TERM; echo $$ >{tmp_path}/pid; while :; do sleep 0.01; done"
    with trio.move_on_after(0.6) as scope:
        await run_program(["/bin/sh", "-c", script], ENVIRONMENT, stubborn, time_ns=200 * NS_PER_MS, merge=False)
    assert scope.cancelled_caught
    assert (stubborn.terminated, stubborn.status) == (True, -signal.SIGKILL)
    assert not is_alive(await read_pid(tmp_path / "pid"))


async def test_one_who_holds_the_output_open_is_not_waited_for_and_does_not_survive(
    tmp_path: Path, others: set[int]
) -> None:
    run = await run_shell(f"(echo $$ >/dev/null; sh -c 'echo $$ >{tmp_path}/pid; exec sleep 600') & echo done")
    assert bytes(run.output) == b"done\n"
    assert run.status == 0
    if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
        assert not is_alive(int((tmp_path / "pid").read_text()))
    assert left_behind(others) == set()


@pytest.mark.parametrize("environment", ["", "env -i /bin/"])
async def test_daemons_do_not_survive_their_program(tmp_path: Path, environment: str, others: set[int]) -> None:
    daemon = f"setsid {environment}sh -c 'echo $$ >{tmp_path}/pid; setsid sleep 600 & sleep 600' >/dev/null 2>&1 &"
    run = await run_shell(f"{daemon} while ! [ -s {tmp_path}/pid ]; do sleep 0.005; done; echo done")
    assert bytes(run.output) == b"done\n"
    assert not is_alive(await read_pid(tmp_path / "pid"))
    assert left_behind(others) == set()


async def test_daemons_of_a_running_program_are_left_alone(tmp_path: Path) -> None:
    daemon = f"(setsid sh -c 'echo $$ >{tmp_path}/pid; exec sleep 600' &)"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_shell, f"{daemon}; while ! [ -e {tmp_path}/end ]; do sleep 0.005; done")
        pid = await read_pid(tmp_path / "pid")
        for _ in range(3):
            await run_shell("true")
            assert is_alive(pid)
        (tmp_path / "end").touch()
    assert not is_alive(pid)


async def test_many_at_once_do_not_harm_each_other(others: set[int]) -> None:
    runs: list[Run] = []

    async def one(number: int) -> None:
        runs.append(await run_shell(f"(setsid sleep 600 &) ; sleep 0.0{number % 5}; echo {number}"))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(one, number)
    assert sorted(int(run.output) for run in runs) == list(range(20))
    assert all(run.status == 0 for run in runs)
    await run_shell("true")
    assert left_behind(others) == set()


async def test_one_that_forks_and_never_ends() -> None:
    before = set(os.listdir("/proc"))
    with trio.move_on_after(0.5):
        await run_shell("f() { sleep 600 & sleep 0.02; f; }; trap '' TERM; f & f", 300 * NS_PER_MS)
    left = [pid for pid in children() if str(pid) not in before]
    assert left == []


@pytest.mark.slow
async def test_programs_of_a_killed_process_do_not_outlive_its_successor(tmp_path: Path) -> None:
    code = (
        "import trio; from hawatch.probes.processes import Run, run_program; "
        f"trio.run(lambda: run_program(['/bin/sh', '-c', 'echo $$ >{tmp_path}/pid; exec sleep 600'], "
        "{'PATH': '/bin:/usr/bin'}, Run(), time_ns=10**12, merge=False))"
    )
    first = subprocess.Popen([sys.executable, "-c", code])
    program = await read_pid(tmp_path / "pid")
    kill_forgotten()
    assert is_alive(program), "its own process lives"
    first.kill()
    await trio.to_thread.run_sync(first.wait)
    with trio.fail_after(10):
        while is_alive(program):
            kill_forgotten()
            await trio.sleep(0.005)


async def test_one_that_may_just_be_starting_is_left_alone() -> None:
    """Between its birth and its first instruction a program has a session of its own, but no mark yet."""
    with subprocess.Popen(["/bin/sleep", "600"], start_new_session=True, env={}) as stranger:
        processes._starting.add("some mark")
        try:
            assert processes._kill_orphans()
            assert is_alive(stranger.pid)
        finally:
            processes._starting.clear()
        assert processes._kill_orphans()
        with trio.fail_after(10):
            while is_alive(stranger.pid):
                await trio.sleep(0.002)
        processes._kill_orphans()
        stranger.returncode = -signal.SIGKILL
