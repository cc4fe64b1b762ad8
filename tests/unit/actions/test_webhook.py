"""Webhooks: what is posted, and what becomes of the answer, with a real HTTP server on loopback."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import json

import httpx
import pytest
import trio

from hawatch.actions.outgoing import SendError
from hawatch.actions.webhook import FORMATS, Hook, make_post, send_webhook
from tests.unit.actions.test_outgoing import DOWN, UP, outgoing


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


def test_signature_and_headers():
    post = posted(outgoing(twice=True), secret=b"geheim", headers={"Authorization": "Bearer x"})
    wanted = hmac.new(b"geheim", post.body, hashlib.sha256).hexdigest()
    assert post.headers["X-Hawatch-Signature"] == f"sha256={wanted}"
    assert post.headers["Authorization"] == "Bearer x"
    assert post.headers["X-Hawatch-Possibly-Twice"] == "yes"


def test_chats():
    slack = json.loads(posted(outgoing(UP), format="slack").body)
    assert slack["attachments"][0]["color"] == "good"
    assert slack["text"].startswith("[epn]")
    mattermost = json.loads(posted(outgoing(severity="critical"), format="mattermost").body)
    assert (mattermost["username"], mattermost["attachments"][0]["color"]) == ("hawatch", "danger")


def test_alertmanager_knows_a_failure_and_its_end_by_the_same_labels():
    (down,) = json.loads(posted(outgoing(DOWN), format="alertmanager").body)
    (up,) = json.loads(posted(outgoing(UP), format="alertmanager").body)
    assert down["labels"] == up["labels"]
    assert down["labels"]["alertname"] == "hawatch_server_down"
    assert down["startsAt"] == "2026-01-01T00:00:00.000Z"
    assert up["endsAt"] == "2026-01-01T00:01:00.000Z"
    assert down["endsAt"] > up["endsAt"]
    (test,) = json.loads(posted(outgoing(test=True), format="alertmanager").body)
    assert test["labels"]["alertname"] == "hawatch_alert_test"


def test_ntfy():
    post = posted(outgoing(severity="critical", subject="Ü"), format="ntfy")
    assert post.headers["X-Priority"] == "5"
    assert post.headers["X-Title"] == "=?UTF-8?B?w5w=?="
    assert post.body.decode().startswith("It is down.")


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
    ("status", "for_good"), [(400, True), (422, True), (404, False), (429, False), (500, False), (302, False)]
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
