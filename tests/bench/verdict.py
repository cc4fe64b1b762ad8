"""From the prober's verdict to the kernel's table, with the whole agent: python -m tests.bench.verdict (needs IPVS).

A real port is closed and opened again. The prober notes in the verdict when it judged; the core tells of the change
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

FLIPS = 20
LIMIT_S = 30.0
SERVER, PORT = "127.2.0.1", 8080
CONFIG = f"""
[[director]]
name = "lvs1"
[[service]]
name = "flips"
address = "192.0.2.250"
port = 80
forward = "masquerade"
on_all_down = "empty"
probe = {{ type = "tcp", interval = "100ms", timeout = "100ms", rise = 1, fall = 1 }}
[[service.server]]
address = "{SERVER}"
port = {PORT}
"""


def agent_command(config: Path, folder: Path) -> list[str]:
    """Return the command that runs an agent with all its files in one folder."""
    program = Path(sys.executable).with_name("hawatch")
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


def next_event(folder: Path, name: str, after: int) -> tuple[int, Record]:
    """Wait for an event of the server's, the first of its name after so many events."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        records = read_back(folder / "state" / "events.jsonl")
        for number, record in enumerate(records[after:], start=after):
            if record.name == name:
                return number + 1, record
        time.sleep(0.02)
    raise RuntimeError(f"no event {name}")


def measure(folder: Path) -> list[float]:
    """Close and open the port, and return what each change took, in milliseconds."""
    found: list[float] = []
    server = socket.create_server((SERVER, PORT), backlog=1000)
    seen, _ = next_event(folder, "server_up", 0)
    for flip in range(FLIPS):
        if flip % 2 == 0:
            server.close()
        else:
            server = socket.create_server((SERVER, PORT), backlog=1000)
        seen, record = next_event(folder, "server_up" if flip % 2 else "server_down", seen)
        found.append(float(record.numbers["kernel_ms"]))
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
        f"verdict to kernel, whole agent, {FLIPS} changes: median {found[len(found) // 2]:.1f} ms, worst {found[-1]:.1f} ms"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
