"""Alerts by a program, called as mon calls its alert scripts: ``-s service -g group -h hosts -t time [-u] arguments``.

What happened is on its standard input: a line of summary, then the detail. The environment has mon's variables. A
program that runs too long is killed with all of its process group.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

import trio

from hawatch.actions.outgoing import Outgoing, SendError
from hawatch.programs import make_ordinary
from hawatch.text import clean, cut

OUTPUT_MAX = 8192
HOSTS_MAX = 65536
"""Characters of the list of hosts: the kernel takes 128 KiB as one argument."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KINDS = {"down": "failure", "again": "failure", "up": "up", "notice": "trap"}


def make_arguments(message: Outgoing, command: Sequence[str], every_s: float = 0.0) -> list[str]:
    """Return the program's argument vector."""
    service, group, hosts = _names(message)
    arguments = [command[0], "-s", service, "-g", group, "-h", hosts, "-t", str(int(message.date_s))]
    if every_s:
        arguments += ["-l", str(int(every_s))]
    if kind_of(message) == "up":
        arguments.append("-u")
    return [*arguments, *command[1:]]


def kind_of(message: Outgoing) -> str:
    """Return mon's word for a message: up only when everything in it is well again."""
    if message.test:
        return "test"
    kinds = {KINDS[each.kind] for each in message.happenings}
    return kinds.pop() if len(kinds) == 1 else "failure"


def _names(message: Outgoing) -> tuple[str, str, str]:
    services = sorted({each.service for each in message.happenings if each.service})
    groups = sorted({each.group for each in message.happenings if each.group})
    hosts = sorted({each.server or each.node for each in message.happenings if each.server or each.node})
    while len(" ".join(hosts)) > HOSTS_MAX:
        hosts = hosts[: len(hosts) // 2]
    names = {each.name for each in message.happenings}
    service = services[0] if len(services) == 1 else "digest" if services else (names or {"test"}).pop()
    return service, groups[0] if len(groups) == 1 else message.cluster or "hawatch", " ".join(hosts)


def make_environment(message: Outgoing) -> dict[str, str]:
    """Return the program's environment."""
    service, group, _ = _names(message)
    kind = kind_of(message)
    began = [each.began_s for each in message.happenings if each.began_s]
    environment = {
        "PATH": PATH,
        "MON_GROUP": group,
        "MON_SERVICE": service,
        "MON_ALERTTYPE": kind,
        "MON_OPSTATUS": "1" if kind == "up" else "0",
        "MON_RETVAL": "0" if kind == "up" else "1",
        "MON_DESCRIPTION": clean(message.subject),
        "MON_LAST_SUMMARY": clean(message.subject),
        "MON_LAST_OUTPUT": cut(message.body, OUTPUT_MAX),
        "MON_ACK": "",
        "MON_DEPEND_STATUS": "",
        "MON_TRAP_INTENDED": "",
        "MON_LOGDIR": "/var/log",
        "MON_STATEDIR": "/var/lib/mon",
        "MON_CFBASEDIR": "/etc/mon",
        "HAWATCH_KEY": message.key,
        "HAWATCH_SEVERITY": message.severity,
        "HAWATCH_POSSIBLY_TWICE": "1" if message.twice else "",
    }
    if began:
        environment["MON_FIRST_FAILURE"] = str(int(min(began)))
    environment["MON_LAST_SUCCESS" if kind == "up" else "MON_LAST_FAILURE"] = str(int(message.date_s))
    if message.happenings:
        environment["HAWATCH_EVENT"] = message.happenings[-1].name
    return environment


async def run_alert(message: Outgoing, command: Sequence[str], timeout_s: float, every_s: float = 0.0) -> str:
    """Run the alert program to its end; raise SendError when it fails."""
    said = f"{clean(message.subject)}\n{message.body}\n".encode()
    return await run_program(make_arguments(message, command, every_s), make_environment(message), said, timeout_s)


async def run_program(command: Sequence[str], environment: Mapping[str, str], stdin: bytes, timeout_s: float) -> str:
    """Run a program to its end and return what it says; raise SendError when it fails."""
    try:
        process = await trio.lowlevel.open_process(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise SendError(f"{command[0]} cannot be started: {error.strerror}") from error
    make_ordinary(process.pid)
    output = bytearray()
    try:
        with trio.fail_after(timeout_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_feed, process, stdin)
                nursery.start_soon(_read, process, output)
                await process.wait()
    except trio.TooSlowError as error:
        raise SendError(f"{command[0]} ran longer than {timeout_s:g} s and was killed", perhaps_taken=True) from error
    finally:
        with trio.CancelScope(shield=True):
            _kill_group(process.pid)
            await process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    await trio.aclose_forcefully(pipe)
    said = cut(clean(bytes(output).decode("utf-8", "replace")))
    if process.returncode:
        how = f"status {process.returncode}" if process.returncode > 0 else f"signal {-process.returncode}"
        raise SendError(f"{command[0]} ended with {how}" + (f": {said}" if said else ""))
    return said


async def _feed(process: trio.Process, data: bytes) -> None:
    assert process.stdin is not None
    try:
        async with process.stdin:
            await process.stdin.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return  # it does not want to know


async def _read(process: trio.Process, output: bytearray) -> None:
    assert process.stdout is not None
    while data := await process.stdout.receive_some(OUTPUT_MAX):
        output += data[: OUTPUT_MAX - len(output)]


def _kill_group(pid: int) -> None:
    """Kill what is left of the program's process group."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
