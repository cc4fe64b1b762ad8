"""What a scrape of /metrics costs a whole agent with 100 services of 20 servers: python -m tests.bench.metrics.

Every server is this process, which takes connections and closes them; each is checked every ten seconds. The CPU of each process is measured for as long without
scrapes as with them, one every 1.2 s, so that each scrape asks the core anew; the difference is what the scrapes cost.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.bench.cost import cpu_ns

SERVICES, SERVERS = 100, 20
PORT = 19694
EVERY_S = 1.2
LIMIT_S = 60.0
CHECKED_PORT = 19695


def site(detail: str) -> str:
    """Return the file of a large site whose servers are this machine's loopback."""
    text = f'[console]\nlisten = "127.0.0.1:{PORT}"\nmetrics_detail = "{detail}"\n[[director]]\nname = "bench"\n'
    for number in range(SERVICES):
        text += f'[[service]]\nname = "s{number}"\naddress = "10.1.{number}.1"\nport = 80\nforward = "masquerade"\n'
        text += f'probe = {{ type = "tcp", port = {CHECKED_PORT}, interval = "10s" }}\n'
        text += "".join(f'[[service.server]]\naddress = "127.2.{number}.{n + 1}"\n' for n in range(SERVERS))
    return text


def scrape() -> tuple[float, str]:
    """Return how long a scrape took, in seconds, and what it said."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=LIMIT_S)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return time.perf_counter() - began, text


def status(folder: Path) -> dict[str, Any]:
    """Return the agent's status."""
    with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as lines:
        connection.connect(str(folder / "run" / "ctl.sock"))
        connection.sendall(b'{"command": "status"}\n')
        found: dict[str, Any] = json.loads(lines.readline())["data"]
    return found


def wait_ready() -> None:
    """Wait until every server is up, and in the kernel's table as it was read last."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        try:
            if len(re.findall("^hawatch_ipvs_server_connections_total", scrape()[1], re.M)) == SERVICES * SERVERS:
                return
        except OSError:
            pass
        time.sleep(1)
    raise RuntimeError("the agent is not ready")


def measure(folder: Path, count: int) -> None:
    """Print what so many scrapes take."""
    workers = {str(worker["name"]): int(worker["pid"]) for worker in status(folder)["workers"]}
    time.sleep(EVERY_S)

    def used() -> dict[str, int]:
        return {name: cpu_ns([pid]) for name, pid in workers.items()}

    begin = used()
    time.sleep(count * EVERY_S)
    idle = used()
    took, text = [], ""
    lag_before = lags(scrape()[1])
    time.sleep(EVERY_S)
    middle = used()
    for _ in range(count):
        next_at = time.monotonic() + EVERY_S
        seconds, text = scrape()
        took.append(seconds)
        time.sleep(max(0.0, next_at - time.monotonic()))
    end = used()
    took.sort()
    lag_after = lags(text)
    gathered = float(text.split("\nhawatch_console_gather_seconds ")[1].split()[0])
    series = sum(not line.startswith("#") for line in text.splitlines())
    print(
        f"{SERVICES} services with {SERVERS} servers each, {count} scrapes: {series} series, {len(text) / 1e6:.1f} MB"
    )
    print(f"  a scrape: median {1000 * took[count // 2]:.0f} ms, longest {1000 * took[-1]:.0f} ms")
    print(f"  of which the numbers of core and prober, in the last one: {1000 * gathered:.0f} ms")
    for name in workers:
        spent_ms = (end[name] - middle[name] - (idle[name] - begin[name])) / count / 1e6
        print(f"  CPU of {name}: {spent_ms:.1f} ms a scrape")
    memory = re.findall(r'^hawatch_process_resident_memory_bytes\{worker="console"\} (\S+)', text, re.M)
    print(f"  memory of console, resident: {float(memory[0]) / 1e6:.0f} MB")
    late = {bound: lag_after[bound] - lag_before[bound] for bound in lag_after}
    shown = ", ".join(f"{float(bound) * 1000:g} ms {value:.0f}" for bound, value in late.items() if bound != "+Inf")
    print(f"  lateness of the core's loop meanwhile, of {late['+Inf']:.0f} measurements at most: {shown}")


def lags(text: str) -> dict[str, float]:
    """Return the buckets of the core's lateness."""
    return {bound: float(value) for bound, value in re.findall(r'core_lag_seconds_bucket\{le="([^"]+)"\} (\S+)', text)}


def answer(listener: socket.socket) -> None:
    """Be every server."""
    while True:
        listener.accept()[0].close()


def main() -> int:
    """Run the agent and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scrapes", type=int, default=20)
    parser.add_argument("--detail", default="server", choices=("server", "check"))
    arguments = parser.parse_args()
    listener = socket.create_server(("0.0.0.0", CHECKED_PORT), backlog=4096)
    threading.Thread(target=answer, args=(listener,), daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="hawatch-bench-") as name:
        folder = Path(name)
        config = folder / "hawatch.toml"
        config.write_text(site(arguments.detail), encoding="utf-8")
        words = [sys.executable, "-m", "tests.bench.agent", str(config), str(folder)]
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            wait_ready()
            measure(folder, arguments.scrapes)
        finally:
            process.terminate()
            process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
