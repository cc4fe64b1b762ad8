"""From the prober's verdict to the kernel's table, with the whole agent: python -m tests.bench.verdict (needs IPVS).

Real ports are closed, one after the other. The prober notes in the verdict when it judged; the core tells of the change
when the kernel has taken it, and says in the event (`kernel_ms`) what lies between: the way to the core, the decision
and netlink.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hawatch.agent.events import Record, read_back

SERVERS = 20
LIMIT_S = 30.0
PORT, BACKLOG = 8080, 60000
PROGRAM = Path(sys.executable).with_name("hawatch")
CONFIG = """
[[director]]
name = "lvs1"
[[service]]
name = "flips"
address = "192.0.2.250"
port = 80
forward = "masquerade"
on_all_down = "empty"
probe = { type = "tcp", interval = "100ms", timeout = "100ms", rise = 1, fall = 1 }
""" + "".join(f'[[service.server]]\naddress = "127.2.0.{n}"\nport = {PORT}\n' for n in range(1, SERVERS + 1))


def agent_command(config: Path, folder: Path, program: Path = PROGRAM) -> list[str]:
    """Return the command that runs an agent with all its files in one folder."""
    return [
        str(program),
        "run",
        "-c",
        str(config),
        "--node",
        "lvs1",
        "--runtime-dir",
        f"{folder}/run",
        "--state-dir",
        f"{folder}/state",
    ]


def ask(folder: Path, command: str) -> dict[str, Any]:
    """Ask a running agent over its ctl socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(LIMIT_S)
        connection.connect(str(folder / "run" / "ctl.sock"))
        connection.sendall(json.dumps({"command": command}).encode() + b"\n")
        text = b""
        while not text.endswith(b"\n"):
            data = connection.recv(1 << 16)
            if not data:
                raise ConnectionResetError("the agent hung up")
            text += data
    found: dict[str, Any] = json.loads(text)["data"]
    return found


def core_pid(folder: Path) -> int:
    """Return the process id of an agent's core."""
    return next(int(worker["pid"]) for worker in ask(folder, "status")["workers"] if worker["name"] == "core")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a daemon and wait for it."""
    process.terminate()
    process.wait()


def wait_event(folder: Path, name: str, server: str) -> Record:
    """Wait for the first event of a name about a server."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        for record in read_back(folder / "state" / "events.jsonl"):
            if (record.name, record.server) == (name, server):
                return record
        time.sleep(0.05)
    raise RuntimeError(f"no event {name} of {server}")


def measure(folder: Path) -> list[float]:
    """Close one port after the other; return how long after its verdict each was out of the table, in milliseconds."""
    found: list[float] = []
    addresses = [f"127.2.0.{n}" for n in range(1, SERVERS + 1)]
    listeners = {address: socket.create_server((address, PORT), backlog=BACKLOG) for address in addresses}
    for address in addresses:
        wait_event(folder, "server_up", f"{address}:{PORT}")
    for address, listener in listeners.items():
        listener.close()
        found.append(float(wait_event(folder, "server_down", f"{address}:{PORT}").numbers["kernel_ms"]))
    return found


def main() -> int:
    """Run the agent, flip the server and print what the way to the kernel takes."""
    with tempfile.TemporaryDirectory(prefix="hawatch-bench-") as name:
        folder = Path(name)
        config = folder / "hawatch.toml"
        config.write_text(CONFIG, encoding="utf-8")
        process = subprocess.Popen(agent_command(config, folder), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            found = sorted(measure(folder))
        finally:
            stop(process)
    print(
        f"verdict to kernel, whole agent, {SERVERS} servers out: median {found[len(found) // 2]:.1f} ms, worst {found[-1]:.1f} ms"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
