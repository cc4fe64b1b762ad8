from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hawatch.agent.priority import PRIORITY, PROBER_NICE, fork_promptly, run_before_others, run_promptly
from hawatch.agent.process import keep_capabilities

KILOBYTE = 1024
NOT_LOCKED = "the core's memory is not locked (RLIMIT_MEMLOCK is limited): a machine that swaps makes it late"


def locked_kb() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmLck"))


def report() -> None:
    """Be promptly run, and print what came of it."""
    if sys.argv[1] == "managed":
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(3))
    if sys.argv[1] != "rich":
        resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (64 * KILOBYTE, 64 * KILOBYTE))
        keep_capabilities([])
    problems = run_promptly("the core")
    policies: list[int] = []
    thread = threading.Thread(target=lambda: policies.append(os.sched_getscheduler(0)))
    thread.start()
    thread.join()
    print(repr((problems, os.sched_getscheduler(0), os.sched_getparam(0).sched_priority, policies, locked_kb() > 0)))


def report_nice() -> None:
    """Be put before others, and print what came of it."""
    if sys.argv[1] == "poor":
        resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
        keep_capabilities([])
    problem = run_before_others(PROBER_NICE)
    print(repr((problem, os.getpriority(os.PRIO_PROCESS, 0))))


def nice_in_process(word: str) -> tuple[str, int]:
    program = "from tests.unit.agent.test_priority import report_nice; report_nice()"
    done = subprocess.run([sys.executable, "-c", program, word], capture_output=True, text=True, check=True)
    return eval(done.stdout)


def in_process(word: str) -> tuple[list[str], int, int, list[int], bool]:
    program = "from tests.unit.agent.test_priority import report; report()"
    done = subprocess.run([sys.executable, "-c", program, word], capture_output=True, text=True, check=True)
    return eval(done.stdout)


@pytest.mark.netns
def test_the_core_and_its_threads_come_first_and_stay_in_memory() -> None:
    assert in_process("rich") == ([], os.SCHED_RR, PRIORITY, [os.SCHED_RR], True)


@pytest.mark.netns
def test_who_may_not_is_told_and_goes_on() -> None:
    problems, policy, _, _, locked = in_process("poor")
    assert (policy, locked) == (os.SCHED_OTHER, False)
    assert problems == [
        "the core runs without real-time priority (Operation not permitted): a busy machine makes it late",
        NOT_LOCKED,
    ]


@pytest.mark.netns
def test_a_prober_comes_before_ordinary_processes_where_it_may() -> None:
    assert nice_in_process("rich") == ("", PROBER_NICE)
    reason = "it runs without raised priority (Permission denied): a busy machine makes its checks late"
    assert nice_in_process("poor") == (reason, os.getpriority(os.PRIO_PROCESS, 0))


@pytest.mark.netns
def test_what_the_service_manager_has_seen_to_is_left_alone() -> None:
    problems, policy, priority, _, _ = in_process("managed")
    assert (problems, policy, priority) == ([NOT_LOCKED], os.SCHED_RR, 3)


def fork_and_report() -> None:
    """Print how the parent and a child of it are run."""
    fork_promptly()
    child = subprocess.run(
        [sys.executable, "-S", "-c", "import os; print(os.sched_getscheduler(0))"], capture_output=True, check=True
    )
    print(os.sched_getscheduler(0), os.sched_getparam(0).sched_priority, int(child.stdout))


@pytest.mark.netns
def test_the_keeper_comes_after_the_core_and_its_children_are_ordinary() -> None:
    program = "from tests.unit.agent.test_priority import fork_and_report; fork_and_report()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    policy, priority, of_child = map(int, done.stdout.split())
    assert policy & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR
    assert priority < PRIORITY
    assert of_child == os.SCHED_OTHER
