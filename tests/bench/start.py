"""From exec to the complete kernel table: `hawatch run` beside `ipvsadm -R` and keepalived with the same table.

python -m tests.lab.uml -- python -m tests.bench.start

Everything is measured from the start of the program to the instant at which the kernel's own listing shows the last
destination. The agent is installed as its users have it, not run from a checkout. Tables: without checks (what
`ipvsadm -R` does), and with a tcp check of each server, all of which answer.
hawatch is started with a configuration that it has never seen, and, as after a boot, with the one that it had before.
Measured as well: a restart with the table in the kernel already, and the core killed and born anew.
"""

from __future__ import annotations

import compileall
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.verdict import agent_command, ask, core_pid, stop
from tests.lab.modules import copy_modules

SERVICES, SERVERS, RUNS = 100, 20, 3
LISTING = Path("/proc/net/ip_vs")
POLL_S = 0.02
LIMIT_S = 60.0
PORT = 80
BACKLOG = 65535


def addresses() -> Iterator[tuple[str, list[str]]]:
    """Yield each service's address and its servers', all of them this machine."""
    for service in range(SERVICES):
        yield f"192.0.2.{service + 1}", [f"127.1.{service}.{server + 1}" for server in range(SERVERS)]


def ipvsadm_lines() -> str:
    """Return the table as `ipvsadm -R` reads it."""
    lines = []
    for address, servers in addresses():
        lines.append(f"-A -t {address}:{PORT} -s wlc")
        lines += [f"-a -t {address}:{PORT} -r {server}:{PORT} -g -w 1" for server in servers]
    return "\n".join([*lines, ""])


def keepalived_text(*, checks: bool) -> str:
    """Return the table as keepalived reads it."""
    check = " TCP_CHECK {\n connect_timeout 1\n }\n" if checks else ""
    text = "global_defs { }\n"
    for address, servers in addresses():
        text += f"virtual_server {address} {PORT} {{\n lvs_sched wlc\n lvs_method DR\n protocol TCP\n delay_loop 5\n"
        text += " alpha\n" if checks else ""
        text += "".join(f" real_server {server} {PORT} {{\n weight 1\n{check} }}\n" for server in servers) + "}\n"
    return text


def hawatch_text(*, checks: bool) -> str:
    """Return the table as hawatch reads it."""
    text = '[[director]]\nname = "lvs1"\n'
    for number, (address, servers) in enumerate(addresses()):
        text += f'[[service]]\nname = "s{number}"\naddress = "{address}"\nport = {PORT}\nscheduler = "wlc"\n'
        text += 'probe = { type = "tcp", interval = "5s" }\n' if checks else ""
        text += "".join(f'[[service.server]]\naddress = "{server}"\n' for server in servers)
    return text


def count_destinations() -> int:
    """Return how many destinations the kernel lists."""
    return LISTING.read_bytes().count(b"\n  -> ") - 1  # the heading has an arrow, too


def wait_complete(process: subprocess.Popen[bytes]) -> None:
    """Wait until the kernel has the whole table."""
    deadline = time.monotonic() + LIMIT_S
    while count_destinations() < SERVICES * SERVERS:
        if time.monotonic() > deadline or process.poll() not in (None, 0):
            raise RuntimeError(f"{process.args} made no complete table: {count_destinations()} destinations")
        time.sleep(POLL_S)


def clear() -> None:
    """Empty the kernel's table."""
    subprocess.run(["ipvsadm", "-C"], check=True)


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a daemon for as long as the block lasts; keepalived tells everything to its standard error, too."""
    error_output = subprocess.DEVNULL if command[0] == "keepalived" else None
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=error_output)
    try:
        yield process
    finally:
        stop(process)


def servers() -> socket.socket:
    """Be all the real servers. Nobody accepts: the kernel alone shakes hands, so that they cost next to nothing."""
    return socket.create_server(("", PORT), backlog=BACKLOG)


def filled_ms(command: list[str], folder: Path | None = None) -> float:
    """Return the time from a program's start to the complete table, which was empty.

    An agent, with its files in `folder`, runs until it answers: only then does it know the configuration the next time.
    """
    clear()
    with servers():
        began = time.monotonic()
        with running(command) as process:
            wait_complete(process)
            took_ms = (time.monotonic() - began) * 1000
            if folder is not None:
                wait_answer(folder)
            return took_ms


def first_filled_ms(command: list[str], folder: Path) -> float:
    """Return the same of an agent that remembers nothing."""
    shutil.rmtree(folder / "state", ignore_errors=True)
    return filled_ms(command, folder)


def median_ms(measure: Callable[[], float]) -> float:
    """Return the median of some runs."""
    return statistics.median(measure() for _ in range(RUNS))


def ipvsadm_ms() -> float:
    """Return the time that `ipvsadm -R` takes."""
    clear()
    lines = ipvsadm_lines().encode()
    began = time.monotonic()
    subprocess.run(["ipvsadm", "-R"], input=lines, check=True)
    return (time.monotonic() - began) * 1000


def restart(folder: Path, program: Path) -> tuple[float, float, float]:
    """Fill the table, stop the agent and start it again; return until it answers, until all is known, and the core's
    return after SIGKILL.
    """
    clear()
    with servers():
        return restart_on_servers(agent_command(folder / "checks.toml", folder, program), folder)


def restart_on_servers(command: list[str], folder: Path) -> tuple[float, float, float]:
    """Measure what `restart` returns."""
    with running(command) as process:
        wait_complete(process)
    assert count_destinations() == SERVICES * SERVERS, "a stopped agent leaves the table"
    began = time.monotonic()
    with running(command):
        wait_answer(folder)
        answered = (time.monotonic() - began) * 1000
        wait_up(folder)
        ready = (time.monotonic() - began) * 1000
        began = time.monotonic()
        os.kill(core_pid(folder), signal.SIGKILL)
        wait_answer(folder)
        back = (time.monotonic() - began) * 1000
    return answered, ready, back


def wait_answer(folder: Path) -> None:
    """Wait until the agent answers its ctl socket."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, json.JSONDecodeError):
            ask(folder, "status")
            return
        time.sleep(0.005)
    raise RuntimeError("the agent does not answer")


def wait_up(folder: Path) -> None:
    """Wait until every server is known to be up."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        rows = [row for service in ask(folder, "status")["services"] for row in service["servers"]]
        if rows and all(row["state"] == "up" for row in rows):
            return
        time.sleep(0.5)
    raise RuntimeError("not all servers are up")


def line(title: str, found_ms: float, beside_ms: float) -> None:
    """Print one measurement and its ratio to ipvsadm's."""
    print(f"  {title:44} {found_ms:7.0f} ms   {found_ms / beside_ms:5.2f} of ipvsadm -R", flush=True)


def install(folder: Path) -> Path:
    """Install the agent as pip does it for its users, and return the program: modules copied and compiled, no finder."""
    venv.create(folder, symlinks=True)
    purelib = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    (purelib / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")  # those it needs; no .pth there counts
    copy_modules(purelib)
    compileall.compile_dir(purelib / "hawatch", quiet=1)
    program = folder / "bin" / "hawatch"
    program.write_text(f"#!{folder}/bin/python\nimport sys\nfrom hawatch.cli.main import main\nsys.exit(main())\n")
    program.chmod(0o755)
    return program


def main() -> int:
    """Measure and print medians and ratios."""
    print(f"{SERVICES} services x {SERVERS} servers, exec to the complete kernel table, median of {RUNS}:", flush=True)
    Path("/proc/sys/net/core/somaxconn").write_text(f"{BACKLOG}\n", encoding="ascii")
    with tempfile.TemporaryDirectory(prefix="hawatch-bench-") as name:
        folder = Path(name)
        program = install(folder / "installed")
        for checks, kind in ((False, "plain"), (True, "checks")):
            Path(folder, f"{kind}.toml").write_text(hawatch_text(checks=checks), encoding="utf-8")
            Path(folder, f"{kind}.conf").write_text(keepalived_text(checks=checks), encoding="utf-8")
        table_ms = median_ms(ipvsadm_ms)
        line("ipvsadm -R", table_ms, table_ms)
        for kind, words in (("plain", "without checks"), ("checks", "after a tcp check of each")):
            keepalived = ["keepalived", "-n", "-C", "-f", f"{folder}/{kind}.conf"]
            keepalived += ["-p", f"{folder}/k.pid", "-c", f"{folder}/kc.pid"]
            line(f"keepalived, {words}", median_ms(lambda command=keepalived: filled_ms(command)), table_ms)
            command = agent_command(folder / f"{kind}.toml", folder, program)
            first_ms = median_ms(lambda command=command: first_filled_ms(command, folder))
            line(f"hawatch, {words}, the first time", first_ms, table_ms)
            line(f"hawatch, {words}", median_ms(lambda command=command: filled_ms(command, folder)), table_ms)
        answered, ready, back = zip(*(restart(folder, program) for _ in range(RUNS)), strict=True)
        line("hawatch restarted on the table: answers ctl", statistics.median(answered), table_ms)
        line("hawatch restarted: all servers known", statistics.median(ready), table_ms)
        print(f"  core killed until it answers ctl again       {statistics.median(back):7.0f} ms")
        clear()
    return 0


if __name__ == "__main__":
    sys.exit(main())
