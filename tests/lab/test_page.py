"""The page in a real browser, before a whole agent with real probes."""

from __future__ import annotations

import contextlib
import os
import signal

import httpx
import pytest
import trio

from tests.lab.browser import browser
from tests.lab.page_site import NASTY, TOKEN, HostileBanner, PageSite, nasty_service

pytestmark = [pytest.mark.slow, pytest.mark.beside]

CONTRAST = """
(() => {
  const light = (c) => { const v = c / 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const parse = (text) => text.match(/[0-9.]+/g).map(Number);
  const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  const bad = [];
  let seen = 0;
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !e.getClientRects().length) continue;
    seen += 1;
    const [a, b] = [luminance(parse(getComputedStyle(e).color)), luminance(ground(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) bad.push(`${e.tagName}.${e.className} ${e.textContent.slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return { bad, seen };
})()
"""


@pytest.fixture
def site(tmp_path):
    banner = HostileBanner()
    made = PageSite(tmp_path, more=nasty_service(tmp_path) + banner.service())
    try:
        made.agent.wait(lambda: set(made.agent.states().values()) == {"up"})
        yield made
    finally:
        made.stop()
        banner.stop()


@contextlib.asynccontextmanager
async def tab_of(site):
    async with browser() as running:
        tab = await running.tab()
        with trio.fail_after(30):
            async with httpx.AsyncClient(trust_env=False) as client:
                while True:
                    with contextlib.suppress(httpx.HTTPError):
                        if (await client.get(f"{site.url}/")).status_code == 200:
                            break
                    await trio.sleep(0.05)
        yield tab
        assert await tab.js("window.violations") == []
        assert tab.problems == []


async def in_thread(function, *arguments):
    return await trio.to_thread.run_sync(function, *arguments)


async def log_in(tab, site):
    await tab.go(f"{site.url}/login")
    await tab.js("document.querySelector('input[name=token]').focus()")
    await tab.type(TOKEN)
    await tab.key("Enter")
    await tab.wait("location.pathname === '/' && document.readyState === 'complete'")


async def test_what_the_page_shows_and_that_it_lives(site):
    async with tab_of(site) as tab:
        await tab.go(f"{site.url}/")
        text = await tab.text()
        for words in ("lvs1", "2 of 2 up", site.servers[0].name, "agent_started", "core running"):
            assert words in text
        await tab.wait("document.getElementById('live').textContent.startsWith('live')")
        await tab.js("window.mine = document.getElementById('svc:web')")
        site.servers[0].stop()
        await tab.wait(
            "document.getElementById('events').innerText.includes('server_down web 127.0.0.2')"
            f" && document.getElementById('srv:web:{site.servers[0].name}').innerText.includes('connection refused')"
        )
        assert await tab.js("document.getElementById('svc:web') === window.mine"), "changed in place"
        assert "server" in await tab.js("document.title")
        await tab.wait("document.getElementById('said').textContent.includes('server_down')")
        assert await tab.js("document.querySelectorAll('#main button').length") == 0, "nobody is logged in"


async def test_what_servers_say_is_text(site):
    async with tab_of(site) as tab:
        await tab.go(f"{site.url}/")
        await tab.wait(f"document.getElementById('srv:nasty:127.0.0.9:80').innerText.includes({NASTY!r})")
        await tab.wait(f"document.getElementById('shown:hostile').innerText.includes({NASTY!r})")
        await tab.go(f"{site.url}/service/nasty")
        await tab.wait(f"document.getElementById('events:nasty').innerText.includes({NASTY!r})")
        assert await tab.js("typeof window.hacked") == "undefined"
        assert await tab.js("document.querySelectorAll('img').length") == 0


async def test_drain_by_keyboard_alone(site):
    name = site.servers[0].name
    async with tab_of(site) as tab:
        await log_in(tab, site)
        for _ in range(60):  # as many as there are things to reach
            await tab.key("Tab")
            if await tab.js("document.activeElement.value") == f"drain web {name}":
                break
        assert await tab.js("getComputedStyle(document.activeElement).outlineStyle") == "solid", "focus is seen"
        await tab.key("Enter")
        await tab.wait("document.getElementById('dialog').open")
        said = await tab.text("#dialog")
        assert f"{name} gets weight 0 in service web" in said
        assert "1 of its 2 servers takes the load then" in said
        assert f"hawatch ctl drain web {name}" in said
        assert await tab.js("document.activeElement.textContent") == "Cancel", "a second Enter does no harm"
        await tab.key("Escape")
        await tab.wait("!document.getElementById('dialog').open")
        assert (await in_thread(site.agent.table))[name] == 1
        await tab.key("Enter")
        await tab.wait("document.getElementById('dialog').open && document.activeElement.textContent === 'Cancel'")
        await tab.key("Tab", shift=True)
        assert await tab.js("document.activeElement.textContent") == "Do it"
        await tab.key("Enter")
        await tab.wait("document.getElementById('dialog').innerText.includes('drained')")
        assert (await in_thread(site.agent.table))[name] == 0
        await tab.key("Escape")
        await tab.wait(f"document.getElementById('srv:web:{name}').innerText.includes('draining')")
        events = await in_thread(site.agent.events)
        assert [record.reason for record in events if record.name == "server_drained"] == ["drained by alice"]
        await tab.js("document.activeElement.blur()")


@pytest.mark.parametrize("scheme", ["dark", "light"])
async def test_every_text_can_be_read(site, scheme):
    site.servers[0].stop()
    async with tab_of(site) as tab:
        await tab.scheme(scheme)
        await log_in(tab, site)
        await tab.wait("document.body.innerText.includes('connection refused')")
        found = await tab.js(CONTRAST)
        assert found["bad"] == []
        assert found["seen"] > 40
        dark = await tab.js("getComputedStyle(document.documentElement).backgroundColor")
        assert (dark == "rgb(18, 22, 27)") is (scheme == "dark")


@pytest.mark.parametrize("path", ["/", "/service/web", "/service/nasty", "/events", "/login", "/act?what=giveaway"])
async def test_a_phone_needs_no_sideways_scrolling(site, path):
    async with tab_of(site) as tab:
        await tab.size(360, 740, mobile=True)
        await log_in(tab, site)
        await tab.go(f"{site.url}{path}")
        assert await tab.js("document.documentElement.scrollWidth") <= 360
        assert await tab.js("Math.max(...[...document.querySelectorAll('body *')].filter((e) => e.getClientRects().length"
                            " && e.id !== 'said' && !e.classList.contains('skip') && !e.closest('thead'))"
                            ".map((e) => e.getBoundingClientRect().right))") <= 360  # fmt: skip


async def test_without_script_it_can_be_read_and_used(site):
    async with tab_of(site) as tab:
        await tab.do("Emulation.setScriptExecutionDisabled", value=True)
        await log_in(tab, site)
        assert site.servers[0].name in await tab.text()
        await tab.go(f"{site.url}/act?what=disable+web+{site.servers[1].name}")
        assert "stays out whatever its probes say" in await tab.text()
        await tab.js("document.querySelector('.sure').click()")
        await in_thread(site.agent.wait, lambda: site.servers[1].name not in site.agent.table())
        await tab.do("Emulation.setScriptExecutionDisabled", value=False)
        await tab.go(f"{site.url}/")


async def test_a_core_that_hangs_is_said(site):
    async with tab_of(site) as tab:
        await tab.go(f"{site.url}/")
        await tab.wait("document.getElementById('live').textContent.startsWith('live')")
        keeper = site.agent.process.pid
        core = (await in_thread(site.agent.worker, "core"))["pid"]
        os.kill(keeper, signal.SIGSTOP)  # else it would start a new core
        os.kill(core, signal.SIGSTOP)
        try:
            await tab.wait("document.getElementById('head').innerText.includes('The core has not answered since')")
            assert "systemctl status hawatch" in await tab.text("#head")
            async with httpx.AsyncClient(base_url=site.url, trust_env=False) as client:
                answer = await client.get("/readyz")
                assert (answer.status_code, answer.text) == (503, "the core does not answer\n")
                assert (await client.get("/livez")).status_code == 200
        finally:
            os.kill(core, signal.SIGCONT)
            os.kill(keeper, signal.SIGCONT)
        await tab.wait("!document.getElementById('head').innerText.includes('not answer')")


async def test_what_is_wrong_comes_with_what_to_do(site):
    name = site.servers[0].name
    async with tab_of(site) as tab:
        await log_in(tab, site)
        site.servers[0].stop()
        await tab.wait(f"document.getElementById('now').innerText.includes('Server {name} of web: down')")
        await tab.js("document.querySelector('#now button').click()")
        await tab.wait("document.getElementById('dialog').open")
        assert "Nothing is changed in IPVS" in await tab.text("#dialog")
        await tab.wait("document.title.startsWith('\u25cb ') || document.title.startsWith('\u25cf ')")


async def test_the_way_past_what_is_on_every_page(site):
    async with tab_of(site) as tab:
        await log_in(tab, site)
        await tab.key("Tab")
        assert await tab.js("document.activeElement.className") == "skip"
        assert await tab.js("document.activeElement.getBoundingClientRect().left") >= 0, "it can be seen"
        await tab.key("Enter")
        await tab.wait("document.activeElement.id === 'main'")
        await tab.key("Tab")
        assert await tab.js("document.getElementById('main').contains(document.activeElement)")


async def test_tabs_that_nobody_sees_leave_the_connections_to_others(site):
    """A browser has six to a server; a page that is loaded needs one."""
    async with browser() as running:
        tabs = [await running.tab() for _ in range(9)]
        for tab in tabs:
            await tab.do("Page.bringToFront")
            await tab.go(f"{site.url}/")
            await tab.wait("document.getElementById('live').textContent.startsWith('live')")
        await tabs[0].do("Page.bringToFront")
        site.servers[0].stop()
        await tabs[0].wait("document.getElementById('now').innerText.includes('down')")
        assert all(tab.problems == [] for tab in tabs)


async def test_a_console_that_dies_comes_back_and_one_that_is_gone_is_seen(site):
    async with tab_of(site) as tab:
        await tab.go(f"{site.url}/")
        await tab.wait("document.getElementById('live').textContent.startsWith('live')")
        birth = await tab.js("document.getElementById('main').dataset.version.split('.')[0]")
        os.kill(await in_thread(site.agent.pid, "console"), signal.SIGKILL)
        await tab.wait(f"document.getElementById('main').dataset.version.split('.')[0] !== '{birth}'")
        await tab.wait("document.getElementById('live').className === ''")
        assert site.servers[0].name in await tab.text()
        await in_thread(site.agent.stop)
        await tab.wait("document.getElementById('live').className === 'lost'")
        assert "what you see is old, of " in await tab.text()
        assert "what you see is old" in await tab.text("#said"), "it is said aloud, too"
        await tab.js("window.scrollTo(0, document.body.scrollHeight)")
        top = await tab.js("document.getElementById('live').getBoundingClientRect().top")
        assert 0 <= top < 200, "it is in sight wherever one is on the page"
        assert (await tab.js(CONTRAST))["bad"] == []
        tab.problems.clear()  # the browser tells of the connections that were refused
