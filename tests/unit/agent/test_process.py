from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hawatch.agent.process import (
    Capability,
    describe_end,
    die_with_parent,
    keep_capabilities,
    notify_service_manager,
    permitted_capabilities,
    set_process_name,
)


def in_child(work: Callable[[], str]) -> str:
    """Run `work` in a forked child, and return what it returns."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write_end, work().encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as file:
        text = file.read()
    os.waitpid(pid, 0)
    return text


def sets() -> dict[str, int]:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return {line.split(":")[0]: int(line.split()[1], 16) for line in lines if line.startswith(("Cap", "NoNew"))}


@pytest.mark.netns
def test_a_child_keeps_what_it_needs_and_nothing_else() -> None:
    raw = 1 << Capability.NET_RAW

    def work() -> str:
        keep_capabilities([Capability.NET_RAW])
        assert permitted_capabilities() == {Capability.NET_RAW}
        return repr(sets())

    found = eval(in_child(work))
    assert found == {"CapInh": 0, "CapPrm": raw, "CapEff": raw, "CapBnd": raw, "CapAmb": 0, "NoNewPrivs": 1}


@pytest.mark.netns
def test_programs_get_what_is_kept_for_them_and_cannot_gain_more() -> None:
    raw = 1 << Capability.NET_RAW

    def work() -> str:
        os.setgroups([])
        keep_capabilities([Capability.NET_RAW], for_programs=True)
        return subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout

    lines = [line.split() for line in in_child(work).splitlines() if line.startswith("Cap")]
    assert {words[0]: int(words[1], 16) for words in lines} == {
        "CapInh:": raw, "CapPrm:": raw, "CapEff:": raw, "CapBnd:": raw, "CapAmb:": raw,
    }  # fmt: skip


def test_a_child_without_any_capability() -> None:
    def work() -> str:
        keep_capabilities([])
        return repr(sorted(permitted_capabilities()))

    assert in_child(work) == "[]"


def test_a_child_dies_with_its_parent() -> None:
    script = (
        "import os, time\n"
        "from hawatch.agent.process import die_with_parent\n"
        "parent = os.getpid()\n"
        "if os.fork() == 0:\n"
        "    die_with_parent(parent)\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(100)\n"
        "time.sleep(100)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        parent.kill()
        assert parent.stdout.read() == ""  # ends only when the child, which has the pipe too, is gone


def test_a_child_whose_parent_is_gone_already_ends() -> None:
    pid = os.fork()
    if pid == 0:
        die_with_parent(os.getppid() + 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_process_name() -> None:
    def work() -> str:
        set_process_name("hawatch:prober-plugins")
        return Path("/proc/self/comm").read_text(encoding="ascii")

    assert in_child(work) == "hawatch:prober-\n"


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (signal.SIGKILL, "killed by SIGKILL"),
        (signal.SIGSEGV | 0x80, "killed by SIGSEGV"),
        (3 << 8, "ended with status 3"),
        (35, "killed by signal 35"),
    ],
)
def test_describe_end(status: int, text: str) -> None:
    assert describe_end(status) == text


@pytest.mark.parametrize("abstract", [False, True])
def test_notifications(tmp_path: Path, abstract: bool) -> None:
    address = f"@hawatch-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    assert notify_service_manager(address, "READY=1") is False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + address[1:] if abstract else address)
        assert notify_service_manager(address, "READY=1\nSTATUS=über")
        assert receiver.recv(100).decode() == "READY=1\nSTATUS=über"
    assert notify_service_manager("", "READY=1") is False
