"""Webhooks: what is posted, and what becomes of the answer, with a real HTTP server on loopback."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import json
import shutil
import subprocess
import time
from dataclasses import asdict, replace
from datetime import datetime

import httpx
import pytest
import trio

from hawatch.actions.outgoing import SendError
from hawatch.actions.webhook import FORMATS, Hook, make_post, send_webhook
from tests.unit.actions.test_outgoing import DOWN, UP, outgoing
from tests.unit.daemons import free_ports
from tests.unit.servers import make_pki, over_tls, tcp_server


def posted(message, **hook):
    return make_post(message, Hook("http://127.0.0.1/", **hook))


def test_json_as_documented():
    post = posted(outgoing(DOWN, UP, more=3))
    data = json.loads(post.body)
    assert data["subject"].startswith("[epn]")
    assert [each["name"] for each in data["events"]] == ["server_down", "server_up"]
    assert data["events"][1]["lasted_s"] == 60.0
    assert data["more"] == 3
    assert data["key"] == post.headers["Idempotency-Key"] == posted(outgoing()).headers["Idempotency-Key"]


def test_json_has_the_whole_message():
    message = outgoing(DOWN, more=3, twice=True)
    post = posted(message)
    data = json.loads(post.body)
    assert data == {
        "version": 1, "key": hashlib.sha256(b"k1").hexdigest()[:32], "cluster": "epn", "node": "lvs1",
        "severity": "warning", "subject": message.subject, "text": message.body, "test": False,
        "possibly_twice": True, "more": 3, "events": [asdict(DOWN)],
    }  # fmt: skip
    assert post.headers == {
        "Content-Type": "application/json", "Idempotency-Key": data["key"], "User-Agent": "hawatch",
        "X-Hawatch-Possibly-Twice": "yes",
    }  # fmt: skip
    once = posted(outgoing(test=True))
    assert "X-Hawatch-Possibly-Twice" not in once.headers
    assert [json.loads(once.body)[key] for key in ("test", "possibly_twice")] == [True, False]


def test_signature_and_headers():
    post = posted(outgoing(twice=True), secret=b"geheim", headers={"Authorization": "Bearer x"})
    wanted = hmac.new(b"geheim", post.body, hashlib.sha256).hexdigest()
    assert post.headers["X-Hawatch-Signature"] == f"sha256={wanted}"
    assert post.headers["Authorization"] == "Bearer x"
    assert post.headers["X-Hawatch-Possibly-Twice"] == "yes"


def test_slack():
    """Its reference: `text`, `attachments` with `color`, `text` and `fallback`; &, < and > are its own."""
    body = "wanted <title> & found <!channel>"
    slack = json.loads(posted(outgoing(UP, body=body, subject="a <b>"), format="slack").body)
    assert set(slack) == {"text", "attachments"}
    assert slack["text"] == "a &lt;b&gt;"
    assert slack["attachments"] == [
        {"color": "#2eb886", "text": "wanted &lt;title&gt; &amp; found &lt;!channel&gt;", "fallback": "a <b>"}
    ]


def test_mattermost():
    """Its reference wants a colour in hexadecimal, and takes text for Markdown and @ for a mention."""
    hook = json.loads(posted(outgoing(severity="critical", body="@all ``` *x*"), format="mattermost").body)
    assert hook["username"] == "hawatch"
    assert hook["attachments"][0]["color"] == "#a30200"
    assert hook["attachments"][0]["text"] == "```\n@all ... *x*\n```"


COLOURS = [("info", "#2eb886"), ("warning", "#daa038"), ("critical", "#a30200")]


@pytest.mark.parametrize("chat", ["slack", "mattermost"])
@pytest.mark.parametrize(("severity", "colour"), COLOURS)
def test_the_colour_says_how_grave_it_is_and_is_green_when_all_is_well_again(chat, severity, colour):
    def colour_of(*happenings):
        hook = json.loads(posted(outgoing(*happenings, severity=severity), format=chat).body)
        assert hook["text"] == hook["attachments"][0]["fallback"] == outgoing().subject
        return hook["attachments"][0]["color"]

    assert colour_of(DOWN) == colour_of(DOWN, UP) == colour
    assert colour_of(UP) == colour_of(UP, UP) == "#2eb886"


@pytest.mark.parametrize("chat", ["slack", "mattermost"])
def test_a_long_text_is_cut_for_a_chat(chat):
    text = json.loads(posted(outgoing(body="x" * 9000), format=chat).body)["attachments"][0]["text"]
    assert 2990 <= text.count("x") <= 3000


def test_alertmanager_knows_a_failure_and_its_end_by_the_same_labels():
    (down,) = json.loads(posted(outgoing(DOWN), format="alertmanager").body)
    (up,) = json.loads(posted(outgoing(UP), format="alertmanager").body)
    assert down["labels"] == up["labels"]
    assert down["labels"]["alertname"] == "hawatch_server_down"
    assert down["startsAt"] == "2026-01-01T00:00:00.000Z"
    assert up["endsAt"] == "2026-01-01T00:01:00.000Z"
    assert down["endsAt"] > up["endsAt"]
    assert down["labels"]["severity"] == "warning"
    (test,) = json.loads(posted(outgoing(test=True), format="alertmanager").body)
    assert test["labels"]["alertname"] == "hawatch_alert_test"


def test_alertmanager_takes_the_end_that_the_other_director_tells():
    (down,) = json.loads(posted(outgoing(DOWN), format="alertmanager").body)
    (up,) = json.loads(posted(outgoing(replace(UP, node="lvs2"), node="lvs2"), format="alertmanager").body)
    assert down["labels"] == up["labels"]
    assert (down["annotations"]["node"], up["annotations"]["node"]) == ("lvs1", "lvs2")
    service = replace(DOWN, name="service_down", failure="service_down", server="")
    (all_down,) = json.loads(posted(outgoing(service), format="alertmanager").body)
    assert "node" not in all_down["labels"]
    own = replace(DOWN, name="worker_lost", failure="worker_lost", service="", server="")
    (worker,) = json.loads(posted(outgoing(own), format="alertmanager").body)
    assert worker["labels"]["node"] == "lvs1"


def test_alertmanager_tells_links_apart():
    links = [
        replace(DOWN, name="link_down", failure="link_down", numbers={"peer": "lvs2", "address": address})
        for address in ("10.99.0.2", "192.168.1.6")
    ]
    first, second = json.loads(posted(outgoing(*links), format="alertmanager").body)
    assert first["labels"] != second["labels"]
    assert (first["labels"]["peer"], first["labels"]["address"]) == ("lvs2", "10.99.0.2")
    lost = replace(DOWN, name="worker_lost", failure="worker_lost", numbers={"worker": "prober"})
    (worker,) = json.loads(posted(outgoing(lost), format="alertmanager").body)
    assert worker["labels"]["worker"] == "prober"


@pytest.mark.parametrize(
    ("name", "severity"),
    [("server_down", "warning"), ("service_down", "critical"), ("director_dead", "critical"),
     ("witness_dead", "critical"), ("link_down", "warning"), ("quorum_lost", "critical"), ("worker_lost", "warning"),
     ("journal_broken", "warning")],
)  # fmt: skip
def test_alertmanager_hears_how_grave_a_failure_is_from_its_end_too(name, severity):
    down = replace(DOWN, name=name, failure=name, severity=severity)
    for each in (down, replace(UP, failure=name)):
        (alert,) = json.loads(posted(outgoing(each), format="alertmanager").body)
        assert (alert["labels"]["alertname"], alert["labels"]["severity"]) == (f"hawatch_{name}", severity)


def test_alertmanager_is_told_how_long_an_alert_lasts():
    """A failure for a week or until its end; what merely happened, for five minutes."""
    notice = replace(DOWN, kind="notice", name="takeover", failure="", severity="critical", began_s=0.0, service="")
    ends = {"down": "2026-01-08T00:01:00.000Z", "notice": "2026-01-01T00:06:00.000Z"}
    for each in (DOWN, replace(DOWN, kind="again"), notice):
        (alert,) = json.loads(posted(outgoing(each), format="alertmanager").body)
        assert alert["endsAt"] == ends.get(each.kind, ends["down"])
        assert alert["annotations"] == {"summary": each.reason, "event": each.name, "node": "lvs1"}
    assert alert["startsAt"] == "2026-01-01T00:01:00.000Z", "where nothing began: now"
    assert (alert["labels"]["severity"], alert["labels"]["node"]) == ("critical", "lvs1")
    (early,) = json.loads(posted(outgoing(UP, date_s=UP.began_s - 60), format="alertmanager").body)
    assert early["startsAt"] == early["endsAt"] == "2025-12-31T23:59:00.000Z", "whatever the clock was set to"


def test_alertmanager_takes_a_test_for_no_failure():
    (test,) = json.loads(posted(outgoing(test=True), format="alertmanager").body)
    assert test["labels"] == {
        "alertname": "hawatch_alert_test", "severity": "info", "cluster": "epn", "node": "lvs1",
    }  # fmt: skip
    assert test["annotations"]["summary"] == outgoing().body
    assert test["endsAt"] == "2026-01-01T00:06:00.000Z"


@pytest.mark.parametrize(("severity", "priority"), [("info", "3"), ("warning", "4"), ("critical", "5")])
def test_ntfy_rings_the_louder_the_graver_it_is(severity, priority):
    post = posted(outgoing(severity=severity), format="ntfy")
    assert (post.headers["X-Priority"], post.headers["X-Tags"]) == (priority, "rotating_light")
    assert post.headers["X-Title"] == outgoing().subject
    assert post.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_ntfy_shows_a_tick_when_all_is_well_again():
    tags = [
        posted(outgoing(*each), format="ntfy").headers["X-Tags"] for each in ([UP], [UP, UP], [UP, DOWN], [DOWN, UP])
    ]
    assert tags == ["white_check_mark", "white_check_mark", "rotating_light", "rotating_light"]
    nothing = posted(outgoing(test=True, happenings=()), format="ntfy")
    assert nothing.headers["X-Tags"] == "rotating_light"


def test_ntfy():
    post = posted(outgoing(severity="critical", subject="Ü"), format="ntfy")
    assert post.headers["X-Priority"] == "5"
    assert post.headers["X-Title"] == "=?UTF-8?B?w5w=?="
    assert post.body.decode().startswith("It is down.")
    assert len(posted(outgoing(body="ü" * 9000), format="ntfy").body) <= 4096


def test_every_format_stands_a_test_message():
    for name in FORMATS:
        assert posted(outgoing(test=True, happenings=()), format=name).body


class Server:
    """Answers each request with the next of its answers, and keeps what it was sent."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []

    async def __call__(self, stream):
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive_some()
        head, _, body = data.partition(b"\r\n\r\n")
        headers = httpx.Headers([line.split(b": ", 1) for line in head.split(b"\r\n")[1:]])
        while len(body) < int(headers["content-length"]):
            body += await stream.receive_some()
        self.requests.append((head.split(b" ")[0], headers, body))
        answer = self.answers.pop(0)
        if answer is None:
            await trio.sleep_forever()
        await stream.send_all(answer)


def answer(status, text="", **headers):
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\n{lines}\r\n{text}".encode()


async def post_to(server, timeout_s=5.0, **hook):
    outcome = None
    async with trio.open_nursery() as nursery:
        serve = functools.partial(trio.serve_tcp, server, 0, host="127.0.0.1")
        listeners = await nursery.start(serve)
        port = listeners[0].socket.getsockname()[1]
        try:
            outcome = await send_webhook(outgoing(), Hook(f"http://127.0.0.1:{port}/x", timeout_s=timeout_s, **hook))
        except SendError as error:
            outcome = error
        nursery.cancel_scope.cancel()
    if isinstance(outcome, SendError):
        raise outcome
    return outcome


async def test_posted():
    server = Server(answer(204))
    assert await post_to(server) == "HTTP 204"
    method, headers, body = server.requests[0]
    assert (method, headers["content-type"]) == (b"POST", "application/json")
    assert json.loads(body)["cluster"] == "epn"


@pytest.mark.parametrize(
    ("status", "for_good"),
    [(400, True), (413, True), (422, True), (404, False), (429, False), (500, False), (302, False)],
)
async def test_refusals(status, for_good):
    with pytest.raises(SendError, match=f"HTTP {status} no thanks") as caught:
        await post_to(Server(answer(status, "no thanks")))
    assert (caught.value.for_good, caught.value.perhaps_taken) == (for_good, False)


async def test_no_answer_may_mean_taken():
    with pytest.raises(SendError) as caught:
        await post_to(Server(None), timeout_s=0.3)
    assert caught.value.perhaps_taken


async def test_a_connection_that_ends_before_the_answer_may_mean_taken():
    with pytest.raises(SendError) as caught:
        await post_to(Server(b""))
    assert caught.value.perhaps_taken


async def test_nobody_there():
    with pytest.raises(SendError, match="no connection") as caught:
        await send_webhook(outgoing(), Hook("http://127.0.0.1:1/"))
    assert not caught.value.perhaps_taken


async def test_an_answer_without_end_is_not_read_to_the_end():
    class Endless(Server):
        async def __call__(self, stream):
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 200 X\r\n\r\n")
            with contextlib.suppress(trio.BrokenResourceError):
                while True:
                    await stream.send_all(b"x" * 65536)

    assert await post_to(Endless()) == "HTTP 200"


async def test_over_tls_with_a_ca_of_ones_own(tmp_path):
    pki = make_pki(tmp_path)
    async with tcp_server(over_tls(pki.server(), Server(answer(200)))) as port:
        hook = Hook(f"https://127.0.0.1:{port}/x", ca_file=pki.ca_file)
        assert await send_webhook(outgoing(), hook) == "HTTP 200"
        with pytest.raises(SendError, match=r"certificate's issuer is unknown|unknown self-signed CA"):
            await send_webhook(outgoing(), Hook(f"https://127.0.0.1:{port}/x"))
        with pytest.raises(SendError, match="/none: No such file"):
            await send_webhook(outgoing(), Hook(f"https://127.0.0.1:{port}/x", ca_file="/none"))


async def test_through_the_proxy_of_the_environment(monkeypatch):
    proxy, asked = Server(answer(200), answer(200)), []

    class Proxy(Server):
        async def __call__(self, stream):
            asked.append(await stream.receive_some())
            await stream.send_all(answer(200))

    async with tcp_server(Proxy()) as port, tcp_server(proxy) as direct:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        assert await send_webhook(outgoing(), Hook("http://chat.example.org/hook")) == "HTTP 200"
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert await send_webhook(outgoing(), Hook(f"http://127.0.0.1:{direct}/hook")) == "HTTP 200"
    assert asked[0].startswith(b"POST http://chat.example.org/hook HTTP/1.1")
    assert len(asked) == len(proxy.requests) == 1


ALERTMANAGER = """
route: { receiver: nobody }
receivers: [{ name: nobody }]
"""


async def active(url):
    async with httpx.AsyncClient() as client:
        answered = await client.get(f"{url}/api/v2/alerts", params={"active": "true"})
    return answered.json()


@pytest.mark.slow
async def test_a_real_alertmanager(tmp_path):
    """A failure is active there until its end, though both come again; a test and a digest are accepted."""
    (port,) = free_ports(1)
    (tmp_path / "config.yml").write_text(ALERTMANAGER)
    url, log = f"http://127.0.0.1:{port}", (tmp_path / "log").open("wb")
    now_s = time.time()
    down = replace(DOWN, began_s=now_s - 60)
    up = replace(UP, began_s=now_s - 60)
    link = replace(DOWN, name="link_down", failure="link_down", service="", server="", numbers={"peer": "lvs2"})
    command = [
        shutil.which("prometheus-alertmanager"), f"--config.file={tmp_path}/config.yml", f"--storage.path={tmp_path}",
        f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
    ]  # fmt: skip
    with log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            with trio.fail_after(30):
                while True:
                    with contextlib.suppress(httpx.HTTPError):
                        if await active(url) == []:
                            break
                    await trio.sleep(0.05)
            hook = Hook(f"{url}/api/v2/alerts", format="alertmanager")
            for _ in range(2):
                await send_webhook(outgoing(down, date_s=now_s), hook)
            (alert,) = await active(url)
            assert alert["labels"] == {
                "alertname": "hawatch_server_down", "severity": "warning", "cluster": "epn",
                "group": "web", "service": "http", "server": "192.168.1.1:80",
            }  # fmt: skip
            assert alert["annotations"]["summary"] == "HTTP 503, wanted 200"
            assert abs(datetime.fromisoformat(alert["startsAt"]).timestamp() - (now_s - 60)) < 1
            assert datetime.fromisoformat(alert["endsAt"]).timestamp() > now_s + 86400
            await send_webhook(outgoing(up, date_s=now_s), hook)
            assert await active(url) == []
            await send_webhook(outgoing(down, link, date_s=now_s, more=3), hook)
            assert {each["labels"]["alertname"] for each in await active(url)} == {
                "hawatch_server_down", "hawatch_link_down",
            }  # fmt: skip
            await send_webhook(outgoing(test=True, date_s=now_s), hook)
        finally:
            process.terminate()
