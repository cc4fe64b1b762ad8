"""Pictures of the page in the documentation, of a site that is made up: `python -m tests.lab.page_picture docs`."""

from __future__ import annotations

import math
import sys
import tempfile
import time
from pathlib import Path

import trio

from hawatch.agent.events import Record, iso_time
from hawatch.console.page.feed import Feed, measured
from hawatch.console.page.server import PageServer
from hawatch.control.view import read_view
from tests.lab.browser import Tab, browser
from tests.unit.console.page.sample import Console, server, service, status
from tests.unit.daemons import free_ports

TOKEN = "a-token-for-pictures-only"
DAY_S = 86400


def site(wave: float = 1.0) -> dict:
    """Return the status of a site with one trouble; `wave` is how busy it is."""

    def busy(address: str, share: float, **more: object) -> dict:
        load = {
            "active": int(800 * share * wave),
            "inactive": 90,
            "connections_per_s": int(60 * share * wave),
            "bytes_in_per_s": int(90_000 * share * wave),
            "bytes_out_per_s": int(2_400_000 * share * wave),
            "latency_ms": round(1.2 + share * wave, 1),
            "since": iso_time(time.time_ns() - 5 * DAY_S * 10**9),
        }
        return server(address, **{**load, **more})

    down = {
        "state": "down",
        "weight": 0,
        "in_table": False,
        "reason": "HTTP 503, wanted 200",
        "active": 0,
        "connections_per_s": 0,
        "bytes_in_per_s": 0,
        "bytes_out_per_s": 0,
        "latency_ms": None,
        "since": iso_time(time.time_ns() - 260 * 10**9),
    }
    return status(
        services=[
            service(busy("192.168.1.1", 0.5), busy("192.168.1.2", 0.45, state="draining", weight=0),
                    busy("192.168.1.3", 0, **down), name="http", address="192.168.1.110"),
            service(busy("192.168.1.1", 0.1), busy("192.168.1.2", 0.12), name="smtp", address="192.168.1.111"),
            service(busy("192.168.1.3", 0.05), busy("192.168.1.4", 0.04), name="dns", address="192.168.1.112"),
        ],
        groups=[{"name": "web", "state": "owner", "owner": "lvs1", "epoch": 4, "addresses": ["192.168.1.110/32"],
                 "reason": "lvs1 and rs1 renewed the lease 240 ms ago"},
                {"name": "mail", "state": "standby", "owner": "lvs2", "epoch": 9,
                 "addresses": ["192.168.1.111/32", "192.168.1.112/32"], "reason": "lvs2 owns it, and is preferred"}],
        directors=[{"name": "lvs2", "state": "alive", "links": [{"address": "10.99.0.2", "state": "up"},
                                                               {"address": "192.168.1.6", "state": "up"}]}],
        witnesses=[{"name": "rs1", "state": "alive", "links": [{"address": "10.99.0.3", "state": "up"},
                                                             {"address": "192.168.1.1", "state": "up"}]}],
        workers=[{"name": name, "state": "running"} for name in ("core", "prober", "console")],
    )  # fmt: skip


def events(now_ns: int) -> list[Record]:
    """Return what happened."""
    rows = (
        (260, "server_down", "warning", "", "http", "192.168.1.3:80", "HTTP 503, wanted 200"),
        (95, "server_drained", "info", "", "http", "192.168.1.2:80", "drained by alice"),
        (3600, "takeover", "info", "web", "", "", "lvs1 owns it now: rs1 granted the lease, lvs2 let go"),
        (3600, "asked", "info", "web", "", "", "alice asked for: switchover of web to lvs1"),
    )
    return [
        Record(
            iso_time(now_ns - ago * 10**9), name, severity, "lvs1", reason, group, service_, server_, {}, now_ns - ago
        )
        for ago, name, severity, group, service_, server_, reason in sorted(rows, reverse=True)
    ]


def fill(feed: Feed, now_ns: int) -> None:
    """Give the graphs a day with a night in it, and an hour with a dip."""
    import msgspec

    for ago_s in range(DAY_S, 0, -30):
        day = ago_s / DAY_S * 2 * math.pi  # the pictures are taken at the busiest time
        ripple = 0.08 * math.sin(ago_s / 47.0) + 0.05 * math.sin(ago_s / 11.0)
        view = read_view(msgspec.json.encode(site(0.6 + 0.3 * math.cos(day) + ripple)))
        assert view is not None
        feed.history.note(measured(view), now_ns - ago_s * 10**9)


async def shoot(tab: Tab, url: str, directory: Path) -> None:
    """Log in and take the pictures."""
    await tab.size(1120, 1080)
    await tab.go(f"{url}/login")
    await tab.js("document.querySelector('input[name=token]').focus()")
    await tab.type(TOKEN)
    await tab.key("Enter")
    await tab.wait("location.pathname === '/' && document.getElementById('live')?.textContent.startsWith('live')")
    await tab.picture(directory / "page.png")
    await tab.js("document.querySelector('button[value^=\"disable http\"]').click()")
    await tab.wait("document.getElementById('dialog').open")
    await tab.size(1120, 600)
    await tab.picture(directory / "page-confirm.png")
    await tab.scheme("dark")
    await tab.size(390, 800, mobile=True)
    await tab.go(f"{url}/service/http")
    await tab.wait("document.getElementById('live').textContent.startsWith('live')")
    await tab.picture(directory / "page-phone.png")


async def main(directory: Path) -> None:
    """Serve the site and take the pictures."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "alice").write_text(TOKEN)
        (port,) = free_ports(1)
        users = f'[console.user.alice]\ntoken_file = "{name}/alice"\n'
        console = Console(Path(name), users, f"127.0.0.1:{port}")
        now_ns = time.time_ns()
        feed = Feed(console)
        fill(feed, now_ns)
        feed.note(events(now_ns))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell, console)
            nursery.start_soon(PageServer(console, feed).run)
            async with browser() as running:
                await shoot(await running.tab(), f"http://127.0.0.1:{port}", directory)
            nursery.cancel_scope.cancel()
        console.store.close()


async def tell(console: Console) -> None:
    """Let the site live a little."""
    number = 0
    while True:
        console.told = site(0.9) | {"uptime_s": number}
        number += 1
        await trio.sleep(0.05)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]))
