"""The page over HTTP: who is let in, and what he may."""

from __future__ import annotations

import contextlib
import html
import re
import ssl
import time

import httpx
import pytest
import trio
import trustme

from hawatch.agent.events import Record, iso_time
from hawatch.agent.settings import Settings
from hawatch.console.page import app
from hawatch.console.page.app import read_place
from hawatch.console.page.ask import ask_core
from hawatch.console.page.feed import Feed
from hawatch.console.page.pages import Place
from hawatch.console.page.server import CONNECTIONS_MAX, PageServer
from hawatch.console.rules import Policy
from hawatch.control import protocol
from hawatch.control.protocol import Done, decode_request, encode_line, raw
from hawatch.model import NS_PER_S
from tests.unit.console.page.sample import Console, status
from tests.unit.daemons import free_ports

TOKEN, READER = "alice-has-a-long-token", "bob-has-another-token"
DRAIN = "drain http 192.0.2.1:80"


class Running:
    """A page that is served, and a core that does what it is asked."""

    def __init__(self, directory, extra="", *, tls=False):
        (self.port,) = free_ports(1)
        for name, token in (("alice", TOKEN), ("bob", READER)):
            (directory / name).write_text(token + "\n")
        users = (
            f'[console.user.alice]\ntoken_file = "{directory}/alice"\n[console.user.bob]\nmay = "read"\n'
            f'token_file = "{directory}/bob"\n'
        )
        self.console = Console(directory, extra + users, f"127.0.0.1:{self.port}")
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self.requests = []
        self.feed = Feed(self.console)
        self.server = PageServer(self.console, self.feed)

    async def core(self, task_status=trio.TASK_STATUS_IGNORED):
        with trio.socket.socket(trio.socket.AF_UNIX) as listener:
            await listener.bind(str(self.console.settings.places.ctl_socket))
            listener.listen(5)
            task_status.started()
            while True:
                connection, _ = await listener.accept()
                with connection:
                    self.requests.append(decode_request(await connection.recv(65536)))
                    await connection.send(encode_line(Done(data=raw({"changes": ["it is <done>"]}))))

    @contextlib.asynccontextmanager
    async def run(self, **client):
        async with trio.open_nursery() as nursery:
            await nursery.start(self.core)
            nursery.start_soon(self.server.run)
            with trio.fail_after(10):
                while self.server._site is None or self.feed.view is None:
                    await trio.sleep(0.01)
                while True:
                    with contextlib.suppress(OSError):
                        await (await trio.open_tcp_stream("127.0.0.1", self.port)).aclose()
                        break
                    await trio.sleep(0.01)
            async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=20, **client) as made:
                yield made
            nursery.cancel_scope.cancel()
        self.console.store.close()


@pytest.fixture
def make(tmp_path):
    return lambda extra="", **more: Running(tmp_path, extra, **more)


def bearer(token):
    return {"authorization": f"Bearer {token}"}


async def log_in(client, token=TOKEN):
    answer = await client.post("/login", data={"token": token}, headers={"origin": str(client.base_url)})
    assert answer.status_code == 303
    return answer


async def stamp(client):
    page = (await client.get("/")).text
    return re.search(r'name="stamp" value="([0-9a-f]+)"', page).group(1)


async def test_everybody_on_this_machine_may_look(make):
    async with make().run() as client:
        page = await client.get("/")
        assert page.status_code == 200
        assert "2 of 2 up" in page.text
        assert "<button" not in page.text
        assert (await client.get("/service/http")).status_code == 200
        assert (await client.get("/service/none")).status_code == 404
        assert (await client.get("/events?service=http&severity=warning&before=1")).status_code == 200
        assert (await client.get("/nothing")).status_code == 404
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        expected = {"x-frame-options": "DENY", "x-content-type-options": "nosniff", "cache-control": "no-store"}
        assert {name: page.headers[name] for name in expected} == expected
        assert not re.search(r"<script(?! src)|<style|\son\w+=|\sstyle=", page.text)
        style = re.search(r'href="(/page.css\?\w+)"', page.text).group(1)
        assert "immutable" in (await client.get(style)).headers["cache-control"]
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.get("/livez")).text == "ok\n"


async def test_to_act_one_logs_in_and_brings_a_stamp(make):
    running = make()
    async with running.run() as client:
        form = {"what": DRAIN, "stamp": ""}
        own = {"origin": running.url}
        assert (await client.post("/act", data=form, headers=own)).status_code == 401
        cookie = (await log_in(client)).headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert "Drain" in (await client.get("/")).text
        assert "weight 0" in (await client.get("/act", params={"what": DRAIN, "part": 1})).text
        for headers in ({}, {"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
            good = {**form, "stamp": await stamp(client)}
            assert (await client.post("/act", data=good, headers=headers)).status_code == 403
        assert (await client.post("/act", data=form, headers=own)).status_code == 403, "no stamp"
        assert running.requests == []
        done = await client.post("/act", data={**form, "stamp": await stamp(client)}, headers=own)
        assert done.status_code == 200
        assert "it is &lt;done&gt;" in done.text
        assert running.requests == [protocol.Drain(service="http", server="192.0.2.1:80", user="alice")]
        assert (await client.get("/act", params={"what": "drain http none"})).status_code == 404
        assert (await client.post("/logout", data={"stamp": "0"}, headers=own)).status_code == 403
        assert (await client.post("/logout", data={"stamp": await stamp(client)}, headers=own)).status_code == 303
        assert (await client.get("/act", params={"what": DRAIN})).status_code == 401


async def test_a_program_brings_its_token(make):
    running = make()
    async with running.run() as client:
        form = {"what": "giveaway"}
        assert (await client.post("/act", data=form, headers=bearer(TOKEN))).status_code == 200
        assert running.requests == [protocol.Giveaway(user="alice")]
        assert (await client.post("/act", data=form, headers=bearer(READER))).status_code == 403
        assert (await client.get("/act", params=form, headers=bearer(READER))).status_code == 403
        assert (await client.get("/", headers=bearer("nobody-has-this-token"))).status_code == 401
        assert (await client.post("/act", data={"what": "reload"}, headers=bearer(TOKEN))).status_code == 404
        assert (await client.post("/act", content=b"x" * 20_000, headers=bearer(TOKEN))).status_code == 404
        assert len(running.requests) == 1


async def test_guessing_is_slow(make):
    async with make().run() as client:
        own = {"origin": str(client.base_url)}
        for _ in range(10):
            answer = await client.post("/login", data={"token": "wrong-wrong-wrong"}, headers=own)
            assert answer.status_code == 401
        answer = await client.post("/login", data={"token": TOKEN}, headers=own)
        assert (answer.status_code, "wait" in answer.text) == (429, True)
        assert (await client.get("/", headers=bearer(TOKEN))).status_code == 429
        assert (await client.get("/")).status_code == 200, "looking goes on"


async def test_older_events_come_page_by_page_each_once(make, monkeypatch):
    """Several in one millisecond, and a clock that went back by a minute in between."""
    monkeypatch.setattr(app, "EVENTS_PAGE", 3)
    running = make()
    now_ns = time.time_ns()
    records = [
        Record(iso_time(at_ns), "takeover", "info", "lvs.1", f"number {number:02}!", id=now_ns + number)
        for number in range(10)
        for at_ns in [now_ns if number < 5 else now_ns - 60 * NS_PER_S]
    ]
    running.console.store.take(records, Policy(), {})
    async with running.run() as client:
        found, url = [], "/events?name=takeover"
        for _ in range(10):
            page = html.unescape((await client.get(url)).text)
            found += re.findall(r"number (\d\d)!", page)
            older = re.search(r'href="(/events\?[^"]*before=[^"]*)"', page)
            if older is None:
                break
            url = older.group(1)
    assert sorted(found) == [f"{number:02}" for number in range(10)]


@pytest.mark.parametrize(
    "text", ["", "1", "x.2.lvs1", "²..", "1.2", "99999999999999999999.1.a", "9999999999999999999.1.a"]
)
async def test_an_odd_position_in_the_journal(make, text):
    async with make().run() as client:
        assert (await client.get("/events", params={"before": text})).status_code == 200


async def test_who_must_log_in_sees_nothing_before(make):
    async with make("anonymous = false\n").run() as client:
        assert (await client.get("/")).headers["location"] == "/login"
        assert (await client.get("/changes")).status_code == 401
        assert (await client.get("/login")).status_code == 200
        assert (await client.get("/livez")).status_code == 200
        await log_in(client, READER)
        assert "2 of 2 up" in (await client.get("/")).text


async def test_another_name_for_this_machine_is_refused(make):
    async with make('names = ["lvs.example.org"]\n').run() as client:
        codes = [
            (await client.get("/", headers={"host": host})).status_code
            for host in ("evil.example", "lvs.example.org:9694", "localhost", "lvs1")
        ]
        assert codes == [421, 200, 200, 200]


async def test_metrics_alone(make):
    async with make("page = false\n").run() as client:
        assert (await client.get("/")).status_code == 404
        assert (await client.get("/metrics")).status_code == 200


async def test_changes_are_waited_for(make):
    running = make()
    async with running.run() as client:
        page = (await client.get("/")).text
        version = re.search(r'data-version="([^"]+)"', page).group(1)
        running.console.told = status(warnings=["the disk is full"])
        changed = {}
        while "now" not in changed:  # whether the core answers may be news before that
            answer = (await client.get("/changes", params={"page": "/", "since": version})).json()
            changed, version = answer["parts"], answer["version"]
        assert "the disk is full" in changed["now"]
        assert 0 < answer["wait"] < 0.1
        assert (await client.get("/changes", params={"page": "/", "since": "x.1"})).json()["reload"] is True
        assert (await client.get("/changes", params={"page": "/service/none", "since": version})).json()[
            "reload"
        ] is True


async def test_an_acknowledgement_is_the_console_s_own(make):
    async with make().run() as client:
        answer = await client.post("/act", data={"what": "ack http"}, headers=bearer(TOKEN))
        assert (answer.status_code, "nothing fails there" in answer.text) == (409, True)


async def test_no_core(make, tmp_path):
    running = make()
    running.console.told = None
    reply = await ask_core(tmp_path / "none", protocol.Giveaway())
    assert "no core answers" in reply.reason


async def test_tls_and_client_certificates(make, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    extra = (
        f'certificate = "{tmp_path}/cert.pem"\nkey = "{tmp_path}/key.pem"\nclient_ca = "{tmp_path}/ca.pem"\n'
        'anonymous = false\n[console.user.carol]\ncertificate = "carol"\n'
    )
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    running = make(extra, tls=True)
    async with running.run(verify=context) as client:
        assert (await client.get("/")).status_code == 303
        secure = (await log_in(client)).headers["set-cookie"]
        assert "Secure" in secure
        known = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        authority.issue_cert("carol@example.org", common_name="carol").configure_cert(known)
        async with httpx.AsyncClient(base_url=running.url, verify=known, trust_env=False) as carol:
            assert "Log out carol" in (await carol.get("/")).text
            form = {"what": DRAIN, "stamp": await stamp(carol)}
            assert (await carol.post("/act", data=form)).status_code == 403, "a browser sends certificates by itself"
            assert (await carol.post("/act", data=form, headers={"origin": running.url})).status_code == 200
            assert running.requests[-1].user == "carol"


async def test_connections_are_bounded(make):
    running = make()
    async with running.run() as client:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(CONNECTIONS_MAX + 5):
                last = await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", running.port))
            with trio.fail_after(10), contextlib.suppress(trio.BrokenResourceError):
                assert await last.receive_some(1) == b"", "told so at once"
            assert running.server._open == CONNECTIONS_MAX
        with trio.fail_after(10):
            while running.server._open:
                await trio.sleep(0.01)
        assert (await client.get("/livez")).status_code == 200


async def test_a_reload_moves_it(make, tmp_path):
    running = make()
    async with running.run() as client:
        assert (await client.get("/livez")).status_code == 200
        (port,) = free_ports(1)
        old = running.console.settings
        moved = old.config.model_copy(
            update={"console": old.config.console.model_copy(update={"listen": f"127.0.0.1:{port}"})}
        )
        running.console.settings = Settings(moved, old.plan, old.node, "", old.places)
        running.server.adopt()
        with trio.fail_after(10):
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get(f"http://127.0.0.1:{port}/livez")).status_code == 200:
                        break
                await trio.sleep(0.02)


def test_places():
    assert read_place("/service/http") == Place("http")
    assert read_place("/?servers=all") == Place(every=True)
    assert read_place("nonsense") == Place()
    assert [read_place(place.path) for place in (Place("a"), Place(), Place(every=True))] == [
        Place("a"), Place(), Place(every=True),
    ]  # fmt: skip
