"""Whether the agent grows: python -m tests.bench.memory [--minutes 10] [--servers 1000].

An hour of a large site in minutes: every server is checked twice a second over HTTP, and all the time some go and come,
so that verdicts, events and alerts are made, too. The core's memory of events is full from the start: it reads as many
back as it keeps. What each process has is looked at again and again; the first quarter of the time, in which histories
and caches fill, does not count.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import msgspec

from hawatch.agent.events import MEMORY_LIMIT, make_record
from hawatch.model import NS_PER_S, Event
from tests.bench.checks import groups, status, wait_all_up
from tests.bench.cost import pss_mb, tree
from tests.bench.site import Farm, Site, bench_site

INTERVAL_MS = 500
FLIP_S = 2.0
"""So often one server of a hundred goes, and those that went before come back."""
LOOK_S = 5.0


def config(farm: Farm) -> str:
    """Return a configuration with services of twenty servers, checked all the time."""
    text = '[[director]]\nname = "bench"\n'
    for number, addresses in enumerate(groups(farm)):
        text += f'[[service]]\nname = "s{number}"\naddress = "10.201.0.{1 + number}"\nport = 80\n'
        text += f'probe = {{ type = "http", interval = "{INTERVAL_MS}ms", timeout = "{INTERVAL_MS}ms", rise = 1, fall = 2 }}\n'
        text += "server = [" + ", ".join(f'{{ address = "{one}" }}' for one in addresses) + "]\n"
    return text


def flip(farm: Farm, away: list[str], random: Random) -> list[str]:
    """Bring back the servers that were away, take others away; return those."""
    for address in away:
        subprocess.run(["ip", "-n", farm.namespace, "route", "del", "unreachable", address], check=True)
    chosen = random.sample(farm.addresses[1:], max(1, len(farm.addresses) // 100))
    for address in chosen:
        subprocess.run(["ip", "-n", farm.namespace, "route", "add", "unreachable", address], check=True)
    return chosen


def fill_memory(path: Path) -> None:
    """Leave as many events as a core remembers, as if an agent had told them before."""
    path.parent.mkdir()
    with path.open("wb") as file:
        for number in range(MEMORY_LIMIT):
            event = Event("server_down", "no HTTP answer in 500 ms", service=f"s{number % 25}", server=f"{number}:80")
            file.write(msgspec.json.encode(make_record(event, "bench", 1_700_000_000 * NS_PER_S + number)) + b"\n")


def look(pid: int) -> dict[str, float]:
    """Return what each process has, by its name."""
    found = {}
    for one in tree(pid):
        with open(f"/proc/{one}/comm", encoding="ascii") as file:
            name = file.read().strip().removeprefix("hawatch:")
        found[name] = found.get(name, 0.0) + pss_mb([one])
    return found


def slope(points: list[tuple[float, float]]) -> float:
    """Return the growth in MB an hour that fits the points best (time in seconds, MB)."""
    middle_s = sum(at for at, _ in points) / len(points)
    middle_mb = sum(has for _, has in points) / len(points)
    spread = sum((at - middle_s) ** 2 for at, _ in points)
    return 3600 * sum((at - middle_s) * (has - middle_mb) for at, has in points) / spread


def run(site: Site, minutes: float) -> tuple[list[tuple[float, dict[str, float]]], int]:
    """Run the agent; return what each process had at each look, and how many events there were."""
    path = site.directory / "hawatch.toml"
    path.write_text(config(site.ours), encoding="utf-8")
    fill_memory(site.directory / "state" / "events.jsonl")
    process = site.start(sys.executable, "-m", "tests.bench.agent", str(path), str(site.directory))
    looks: list[tuple[float, dict[str, float]]] = []
    away: list[str] = []
    random = Random(1)
    try:
        wait_all_up(site)
        begun_s = looked_s = time.monotonic()
        while (now_s := time.monotonic()) - begun_s < minutes * 60:
            away = flip(site.ours, away, random)
            if now_s - looked_s >= LOOK_S:
                looked_s = now_s
                looks.append((now_s - begun_s, look(process.pid)))
                status(site)
            time.sleep(FLIP_S)
    finally:
        process.terminate()
        process.wait(10)
    return looks, (site.directory / "state/events.jsonl").read_bytes().count(b"\n") - MEMORY_LIMIT


def main(words: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--servers", type=int, default=1000)
    arguments = parser.parse_args(words)
    with bench_site(arguments.servers) as site:
        looks, events = run(site, arguments.minutes)
    rate = arguments.servers * 1000 / INTERVAL_MS
    counted = looks[len(looks) // 4 :]
    print(f"{arguments.minutes:g} minutes, {rate:.0f} checks a second, {events} events:")
    for name in [*counted[0][1], "together"]:
        points = [(at, sum(has.values()) if name == "together" else has.get(name, 0.0)) for at, has in counted]
        half = len(points) // 2
        first, last = (sum(has for _, has in part) / len(part) for part in (points[:half], points[half:]))
        print(f"  {name:10} {first:6.1f} MB PSS, later {last:6.1f} MB, {slope(points):+7.2f} MB an hour")
    return 0


if __name__ == "__main__":
    sys.exit(main())
