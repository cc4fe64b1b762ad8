"""The page over HTTP: who asks, what he may, and the routes. All that is shown is made elsewhere."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final
from urllib.parse import parse_qs, urlencode

import trio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from hawatch.actions.outgoing import SendError
from hawatch.agent.settings import Settings, now_ns
from hawatch.config.fields import split_host_port
from hawatch.console.answers import Answers
from hawatch.console.journal import Filter, Position, position_of, select
from hawatch.console.metrics import answer
from hawatch.console.page import pages
from hawatch.console.page.ask import ask_core
from hawatch.console.page.deeds import Deed, consequences, label, parse, request_of
from hawatch.console.page.feed import Feed, Shown
from hawatch.console.page.guard import Guard, Known, User, digest, is_loopback, own_name, same_origin
from hawatch.console.page.html import Html
from hawatch.console.page.pages import Frame, Painter, Place
from hawatch.console.targets import read_secret
from hawatch.control.protocol import Ack, Done, Refused, Reply
from hawatch.errors import UsageError

BODY_MAX = 8192
BODY_S = 10.0
HOLD_S = 15.0
"""A browser waits for changes so long before it asks again."""
HELD_MAX = 64
"""Browsers that wait at once; one more is told to come back later."""
PAUSE_S, PAUSE_MAX_S = 0.02, 1.0
"""A browser asks again after so long for each that waits, so that fifty cost not much more than a few."""
TURNED_AWAY_S = 5.0
READY_S = 3.0
"""A page waits so long for the core's first status."""
AGAIN_S = 5
"""A browser tries again after so long when there was no status."""
EVENTS_PAGE = 200
COOKIE: Final = "hawatch"
SAFE_HEADERS: Final = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    b"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    b"x-frame-options": b"DENY",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
}
OPEN: Final = ("/metrics", "/livez", "/readyz", "/page.css", "/page.js", "/icon.svg", "/login")
"""What is no secret."""
STATIC: Final = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks."""

    user: User | None
    key: str = ""
    """What the stamps of his forms are made of."""
    bearer: bool = False
    """He brought his token along: no browser does that by itself, so no other page can make it."""


NOBODY = Visitor(None)


def read_users(settings: Settings) -> tuple[dict[str, Known], list[str]]:
    """Return the users of a configuration, and whose token cannot be read: he is not let in by it."""
    found: dict[str, Known] = {}
    problems = []
    for name, user in settings.config.console.user.items():
        try:
            token = read_secret(user.token_file).decode("utf-8", "replace") if user.token_file else ""
        except SendError as error:
            problems.append(f"{name} cannot log in to the page: {error}")
            token = ""
        known = User(name, user.may == "act")
        found[name] = Known(known, digest(token) if token else b"", user.certificate)
    return found, problems


class Site:
    """The routes, and what they need."""

    def __init__(self, console: Shown, feed: Feed) -> None:
        self.console = console
        self.feed = feed
        self.guard = Guard(lambda: secrets.token_urlsafe(32), secrets.token_bytes(32))
        self.held = 0
        package = files("hawatch.console.page")
        self._files = {name: (package / "static" / name).read_bytes() for name in STATIC}
        marks = {name: sha256(data).hexdigest()[:12] for name, data in self._files.items()}
        self.style, self.script = f"/page.css?{marks['page.css']}", f"/page.js?{marks['page.js']}"
        paths = {
            "/": self._first, "/service/{name}": self._service, "/events": self._events, "/changes": self._changes,
            "/login": self._login_form, "/act": self._confirm,
        }  # fmt: skip
        posts = {"/login": self._login, "/logout": self._logout, "/act": self._act}
        self._app = Starlette(
            routes=[
                *(Route(path, self._plain) for path in ("/metrics", "/livez", "/readyz")),
                *(Route(f"/{name}", self._static) for name in STATIC),
                *(Route(path, endpoint) for path, endpoint in paths.items()),
                *(Route(path, endpoint, methods=["POST"]) for path, endpoint in posts.items()),
            ]
        )

    # --- the way in ------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return

        async def send_safe(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message.get("headers", ())}
                more = [(name, value) for name, value in SAFE_HEADERS.items() if name not in given]
                if b"cache-control" not in given:
                    more.append((b"cache-control", b"no-store"))
                message["headers"] = [*message.get("headers", ()), *more]
            await send(message)

        request = Request(scope, receive)
        refused = self._refuse(request)
        if refused is not None:
            await refused(scope, receive, send_safe)
            return
        try:
            await self._app(scope, receive, send_safe)
        except ClientDisconnect:
            return

    def _refuse(self, request: Request) -> Response | None:
        """Return what one is told who may not have what he asks for; None when he may."""
        path = request.url.path
        settings = self.console.settings.config.console
        if path in OPEN[:3]:
            return None
        if not settings.page:
            return Response("there are /metrics, /livez and /readyz\n", 404)
        host = request.headers.get("host", "")
        if not own_name(host, (*settings.names, self.console.settings.node)):
            return Response("this name is not one of ours: see names in [console]\n", 421)
        visitor = self._visitor(request)
        if isinstance(visitor, Response):
            return visitor
        request.scope["visitor"] = visitor
        if request.method == "POST" and not visitor.bearer:
            headers = request.headers
            if not same_origin(host, headers.get("origin", ""), headers.get("sec-fetch-site", "")):
                return Response("this request comes from another page\n", 403)
        if visitor.user is not None or path in OPEN or self._open_to_all():
            return None
        if request.method == "GET" and path != "/changes":
            return RedirectResponse("/login", 303)
        return Response("log in first\n", 401, {"www-authenticate": "Bearer"})

    def _open_to_all(self) -> bool:
        settings = self.console.settings.config.console
        return settings.anonymous and is_loopback(split_host_port(settings.listen)[0])

    def _visitor(self, request: Request) -> Visitor | Response:
        """Return who asks, by what he brings along."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            known = self._try(request, token.strip())
            return known if isinstance(known, Response) else Visitor(known.user, bearer=True)
        cookie = request.cookies.get(COOKIE, "")
        user = self.guard.by_session(cookie, now_ns()) if cookie else None
        if user is not None:
            return Visitor(user, cookie)
        name = request.scope.get("client_certificate", "")
        user = self.guard.by_certificate(name)
        return Visitor(user, f"certificate {name}") if user is not None else NOBODY

    def _try(self, request: Request, token: str) -> Known | Response:
        """Return whose token it is, or what is said to one who has none of ours."""
        address, now = request.client.host if request.client else "", now_ns()
        wait_s = self.guard.throttle.wait_s(address, now)
        if wait_s:
            return Response(f"too many wrong tokens: wait {wait_s} s\n", 429, {"retry-after": str(wait_s)})
        known = self.guard.by_token(token)
        if known is None:
            self.guard.throttle.fail(address, now)
            return Response("nobody has this token\n", 401, {"www-authenticate": "Bearer"})
        return known

    # --- what is shown ---------------------------------------------------------------------------------------

    async def _plain(self, request: Request) -> Response:
        status, kind, body = await answer(self.console, request.url.path)
        return Response(body, status, media_type=kind)

    async def _static(self, request: Request) -> Response:
        name = request.url.path[1:]
        kept = {"cache-control": "public, max-age=31536000, immutable"} if request.url.query else {}
        return Response(self._files[name], headers=kept, media_type=STATIC[name])

    async def _ready(self) -> bool:
        """Be fresh, and wait for the first status."""
        self.feed.look()
        with trio.move_on_after(READY_S):
            while self.feed.view is None:
                await self.feed.wait_change()
        return self.feed.view is not None

    def _frame(self, request: Request, live: str = "") -> Frame:
        visitor: Visitor = request.scope["visitor"]
        settings = self.console.settings
        return Frame(
            node=settings.node, cluster=settings.config.cluster.name, user=visitor.user,
            can_log_in=self.guard.has_users, stamp=self.guard.stamp(visitor.key),
            version=self.feed.board.stamp if live else "", style=self.style, script=self.script, live=live,
        )  # fmt: skip

    def _painter(self, request: Request) -> Painter:
        user = request.scope["visitor"].user
        return Painter(self.feed, act=user is not None and user.acts)

    async def _first(self, request: Request) -> Response:
        place = Place(every=request.query_params.get("servers") == "all")
        return await self._live(request, place)

    async def _service(self, request: Request) -> Response:
        return await self._live(request, Place(service=request.path_params["name"]))

    async def _live(self, request: Request, place: Place) -> Response:
        if not await self._ready():
            note = pages.outcome("The core does not answer", ["This page shows the site when it does."], done=False)
            return _html(replace(self._frame(request), again_s=AGAIN_S).page("no answer", note), 503)
        assert self.feed.view is not None
        painter, frame = self._painter(request), self._frame(request, place.path)
        if not place.service:
            return _html(frame.page("overview", await painter.first(place)))
        if self.feed.view.service(place.service) is None:
            return self._sorry(request, f"there is no service {place.service}", 404)
        return _html(frame.page(place.service, await painter.service(place)))

    async def _changes(self, request: Request) -> Response:
        """Answer with what changed since a version, as soon as something has."""
        place, stamp = read_place(request.query_params.get("page", "")), request.query_params.get("since", "")
        self.feed.look()
        held = self.held < HELD_MAX
        self.held += 1
        count = self.held
        try:
            found, version = await self._wait_changes(request, place, stamp, HOLD_S if held else 0.01)
        finally:
            self.held -= 1
        wait_s = min(PAUSE_MAX_S, PAUSE_S * max(count, self.held)) if held else TURNED_AWAY_S
        body = {"version": version, "wait": wait_s} | ({"reload": True} if found is None else {"parts": found})
        return Response(json.dumps(body), media_type="application/json")

    async def _wait_changes(
        self, request: Request, place: Place, stamp: str, limit_s: float
    ) -> tuple[dict[str, str] | None, str]:
        """Return what changed, nothing if nothing has in time, and the version that it is of."""
        deadline = trio.current_time() + limit_s
        while True:
            painter = self._painter(request)
            found = await painter.changes(place, stamp)
            with trio.move_on_at(deadline):
                if found == {} and self.feed.board.stamp == painter.stamp:
                    await self.feed.wait_change()
                    continue
            if found != {} or trio.current_time() >= deadline:
                return found, painter.stamp

    async def _events(self, request: Request) -> Response:
        wanted = {key: value for key, value in request.query_params.items() if value and len(value) <= 100}
        wanted.pop("before", None)
        before = read_position(request.query_params.get("before", ""))
        names = (wanted["name"],) if wanted.get("name") else ()
        severity = wanted.get("severity", "")
        filter_ = Filter(
            group=wanted.get("group", ""), service=wanted.get("service", ""), server=wanted.get("server", ""),
            names=names, least=severity if severity in ("warning", "critical") else "",
        )  # fmt: skip
        records = await self.console.shelf.query(lambda database: select(database, filter_, EVENTS_PAGE, before))
        older = ""
        if len(records) == EVENTS_PAGE:
            older = "/events?" + urlencode({**wanted, "before": ".".join(map(str, position_of(records[0])))})
        return _html(self._frame(request).page("events", pages.events_page(records, wanted, older)))

    # --- logging in ------------------------------------------------------------------------------------------

    async def _login_form(self, request: Request) -> Response:
        return _html(self._frame(request).page("log in", pages.login_form("")))

    async def _login(self, request: Request) -> Response:
        form = await read_form(request)
        known = self._try(request, form.get("token", ""))
        if isinstance(known, Response):
            said = pages.login_form(bytes(known.body).decode().strip())
            return _html(self._frame(request).page("log in", said), known.status_code)
        done = RedirectResponse("/", 303)
        cookie = self.guard.open_session(known, now_ns())
        secure = request.url.scheme == "https"
        done.set_cookie(COOKIE, cookie, httponly=True, samesite="strict", secure=secure, max_age=12 * 3600)
        return done

    async def _logout(self, request: Request) -> Response:
        form = await read_form(request)
        visitor: Visitor = request.scope["visitor"]
        if not self.guard.is_stamp(visitor.key, form.get("stamp", "")):
            return self._sorry(request, "this form is too old: load the page again", 403)
        self.guard.close_session(visitor.key)
        done = RedirectResponse("/", 303)
        done.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return done

    # --- acting ----------------------------------------------------------------------------------------------

    async def _confirm(self, request: Request) -> Response:
        """Say what an action will do, before it is done."""
        words = request.query_params.get("what", "")
        part = "part" in request.query_params
        if (refused := self._may_not_act(request)) is not None:
            return refused
        if not await self._ready() or self.feed.view is None:
            return self._sorry(request, "the core does not answer", 503, part=part)
        try:
            deed = parse(words)
            sentences = consequences(deed, self.feed.view)
        except UsageError as error:
            return self._sorry(request, str(error), 404, part=part)
        stamp = self.guard.stamp(request.scope["visitor"].key)
        form = pages.confirmation(title_of(deed), words, sentences, deed.command, stamp, note=deed.verb == "ack")
        return _html(form.encode() if part else self._frame(request).page(label(deed), form))

    async def _act(self, request: Request) -> Response:
        """Do it, by the same request that `hawatch ctl` makes."""
        part = "part" in request.query_params
        if (refused := self._may_not_act(request)) is not None:
            return refused
        visitor: Visitor = request.scope["visitor"]
        assert visitor.user is not None
        form = await read_form(request)
        if not visitor.bearer and not self.guard.is_stamp(visitor.key, form.get("stamp", "")):
            return self._sorry(request, "this form is too old: load the page again", 403, part=part)
        try:
            deed = parse(form.get("what", ""))
        except UsageError as error:
            return self._sorry(request, str(error), 404, part=part)
        reply = await self._carry_out(deed, visitor.user, form.get("text", ""))
        done = isinstance(reply, Done)
        made = pages.outcome("Done" if done else "Not done", lines_of(reply), done=done)
        self.feed.look()
        status = 200 if done else 409
        return _html(made.encode() if part else self._frame(request).page(label(deed), made), status)

    async def _carry_out(self, deed: Deed, user: User, text: str) -> Reply:
        asked = request_of(deed, user.name, text)
        if isinstance(asked, Ack):

            async def send(_reply: Reply) -> None:
                pass

            return await Answers(self.console).handle(asked, send)
        return await ask_core(self.console.settings.places.ctl_socket, asked)

    def _may_not_act(self, request: Request) -> Response | None:
        user = request.scope["visitor"].user
        if user is not None and user.acts:
            return None
        why = f"{user.name} may look, and nothing else" if user else "log in first"
        return self._sorry(request, why, 403 if user else 401, part="part" in request.query_params)

    def _sorry(self, request: Request, why: str, status: int, *, part: bool = False) -> Response:
        made = pages.outcome("Not done", [why], done=False)
        return _html(made.encode() if part else self._frame(request).page("not done", made), status)


def _html(body: bytes | Html, status: int = 200) -> Response:
    return Response(body, status, media_type="text/html")


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a small form."""
    body = b""
    with trio.move_on_after(BODY_S):
        async with contextlib.aclosing(request.stream()) as stream:
            async for chunk in stream:
                body += chunk
                if len(body) > BODY_MAX:
                    return {}
    fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=20)
    return {name: values[0] for name, values in fields.items()}


def read_place(path: str) -> Place:
    """Return the page that a browser shows; the first one when it says nothing that we know."""
    if path.startswith("/service/"):
        return Place(service=path.removeprefix("/service/"))
    return Place(every=path == "/?servers=all")


def read_position(text: str) -> Position | None:
    """Return the position in the journal that a link names, None for what names none."""
    at_ns, _, rest = text.partition(".")
    number, _, node = rest.partition(".")
    if not all(each.isascii() and each.isdecimal() and len(each) < 20 for each in (at_ns, number)):
        return None
    largest = (1 << 63) - 1
    return Position(min(int(at_ns), largest), min(int(number), largest), node)


def title_of(deed: Deed) -> str:
    """Return the question."""
    match deed:
        case Deed(verb="switchover"):
            return f"Move group {deed.group} to {deed.to}?"
        case Deed(server=str(server)) if server:
            return f"{label(deed)} {server} in service {deed.service}?"
        case Deed(service=str(service)) if service:
            return f"{label(deed)} service {service}?"
        case _:
            return f"{label(deed)}?"


def lines_of(reply: Reply) -> list[str]:
    """Return what came of a request, in words."""
    if isinstance(reply, Refused):
        return [reply.reason, *reply.problems]
    data: Mapping[str, Any] = json.loads(bytes(reply.data)) if isinstance(reply, Done) else {}
    return [str(each) for each in data.get("changes", ())] or [str(data.get("text", "done"))]
