"""The page of 100 services with 20 servers each in a real browser: `python -m tests.bench.page`."""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from time import perf_counter

import httpx
import trio

from tests.lab.browser import Tab, browser
from tests.lab.page_site import TOKEN, PageSite, many

SERVICES, SERVERS = 100, 20
UPDATES = 100
LOADS = 7
PAINTED = """
new Promise((done) => {
  const look = () => {
    const found = performance.getEntriesByName("first-contentful-paint")[0];
    found ? done(found.startTime) : requestAnimationFrame(look);
  };
  look();
})"""
WATCH = """
window.seen = Promise.all(%s.map(([id, words]) => new Promise((done) => {
  const look = () => document.getElementById(id)?.textContent.includes(words);
  const observer = new MutationObserver(() => {
    if (!look()) return;
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => done(Date.now()), 0));
  });
  observer.observe(document.getElementById("main"), { subtree: true, childList: true, characterData: true });
})));
0"""


def pss_mb(pid: int) -> float:
    """Return a process's proportional share of memory."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


def told(name: str, values: list[float]) -> None:
    """Print what was measured."""
    values = sorted(values)
    late = values[min(len(values) - 1, int(0.95 * len(values)))]
    print(
        f"  {name}: median {statistics.median(values):.0f} ms, 95 % {late:.0f}, worst {values[-1]:.0f} of {len(values)}"
    )


async def loads(tab: Tab, url: str, name: str) -> None:
    """Load a page several times."""
    paints = []
    for _ in range(LOADS):
        await tab.go(url)
        paints.append(float(await tab.js(PAINTED)))
    told(f"first paint of {name}", paints)


async def updates(tab: Tab, client: httpx.AsyncClient, site: PageSite, count: int, *, scrapes: bool) -> None:
    """Drain servers, and see when the page shows the event and the server's new state."""
    shown: dict[str, list[float]] = {"event": [], "server": []}
    applied: list[float] = []
    async with trio.open_nursery() as nursery:
        if scrapes:
            nursery.start_soon(scrape, client, site)
        for number in range(count):
            service = number % SERVICES
            server = f"10.2.{service}.1:80"
            watched = [
                ["events", f"server_drained service{service} {server}"],
                [f"srv:service{service}:{server}", "draining"],
            ]
            await trio.sleep(0.3 + number * 0.077 % 1)  # at any moment between two looks at the core
            await tab.js(WATCH % json.dumps(watched))
            await tab.js("performance.clearMeasures()")
            answer = await client.post(f"{site.url}/act?part=1", data={"what": f"drain service{service} {server}"})
            assert answer.status_code == 200, answer.text
            log = await trio.to_thread.run_sync(site.agent.events)
            emitted_ms = max(record.id for record in log if record.name == "server_drained") / 1e6
            for times, seen in zip(shown.values(), await tab.js("window.seen"), strict=True):
                times.append(seen - emitted_ms)
            applied += await tab.js("performance.getEntriesByName('update').map((e) => e.duration)")
        nursery.cancel_scope.cancel()
    when = ", with a scrape of /metrics every second" if scrapes else ""
    told(f"from the core's event to its paint{when}", shown["event"])
    told(f"to the paint of the server's new state{when}", shown["server"])
    told("of that, putting the change in place", applied)


async def scrape(client: httpx.AsyncClient, site: PageSite) -> None:
    """Be Prometheus, in a hurry."""
    while True:
        await client.get(f"{site.url}/metrics")
        await trio.sleep(1)


async def burst(tab: Tab, client: httpx.AsyncClient, site: PageSite) -> None:
    """Drain everything at once."""
    await tab.js("performance.clearMeasures()")
    for number in range(SERVICES):
        await client.post(f"{site.url}/act?part=1", data={"what": f"disable service{number} all"})
    await trio.sleep(3)
    applied = await tab.js("performance.getEntriesByName('update').map((e) => e.duration)")
    told("putting a change in place while all 2,000 servers change", applied)


async def main() -> None:
    """Print first paint, updates and memory."""
    with tempfile.TemporaryDirectory() as name:
        site = PageSite(Path(name), more=many(SERVICES, SERVERS))
        try:
            site.agent.wait(lambda: len(site.agent.table()) > SERVICES * SERVERS // 2)
            async with browser() as running:
                tab = await running.tab()
                await tab.size(1280, 900)
                headers = {"authorization": f"Bearer {TOKEN}"}
                async with httpx.AsyncClient(trust_env=False, headers=headers, timeout=30) as client:
                    await measure(tab, client, site)
        finally:
            site.stop()


async def measure(tab: Tab, client: httpx.AsyncClient, site: PageSite) -> None:
    """Measure one site."""
    print(f"{SERVICES} services with {SERVERS} servers each")
    await tab.go(f"{site.url}/")
    await loads(tab, f"{site.url}/", "the first page")
    await loads(tab, f"{site.url}/service/service7", "a service's page")
    await loads(tab, f"{site.url}/?servers=all", "all 2,000 servers")
    begin = perf_counter()
    size = len((await client.get(f"{site.url}/")).content)
    took_ms = 1000 * (perf_counter() - begin)
    print(f"  the first page: {size / 1000:.0f} kB, made and sent in {took_ms:.0f} ms")
    await tab.go(f"{site.url}/")
    await tab.wait("document.getElementById('live').textContent.startsWith('live')")
    await updates(tab, client, site, UPDATES, scrapes=False)
    await client.post(f"{site.url}/act?part=1", data={"what": "undrain all all"})
    await tab.wait("!document.getElementById('main').textContent.includes('draining')")
    await updates(tab, client, site, UPDATES // 2, scrapes=True)
    await burst(tab, client, site)
    worker = await trio.to_thread.run_sync(site.agent.worker, "console")
    print(f"  memory of the console: {pss_mb(worker['pid']):.0f} MB")


if __name__ == "__main__":
    trio.run(main)
