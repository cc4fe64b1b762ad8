"""Who may read and who may act: tokens, sessions, certificates, and the checks of where a request comes from. Pure.

What is secret is compared by its digest, in the same time whether it fits or not. Everything is bounded: sessions,
addresses that are remembered, attempts.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from hawatch.config.fields import split_host_port
from hawatch.model import NS_PER_S

SESSIONS_MAX = 64
SESSION_NS = 12 * 3600 * NS_PER_S
TOKEN_MIN = 16
"""Characters of a token at least."""
TOKEN_MAX = 512
FAILURES_MAX = 10
"""Wrong tokens of one address within the window; then it waits."""
FAILURES_ALL_MAX = 200
WINDOW_NS = 300 * NS_PER_S
ADDRESSES_MAX = 1000


@dataclass(frozen=True, slots=True)
class User:
    """One who is allowed in."""

    name: str
    acts: bool
    """Whether he may do more than look."""


@dataclass(frozen=True, slots=True)
class Known:
    """How a user is recognised."""

    user: User
    digest: bytes = b""
    """Of his token; b"": he has none."""
    certificate: str = ""
    """Common name of his client certificate; "": he has none."""


@dataclass(frozen=True, slots=True)
class _Session:
    known: Known
    ends_ns: int


def digest(token: str) -> bytes:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode()).digest()


class Throttle:
    """Counts wrong tokens."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, deque[int]] = OrderedDict()
        self._all: deque[int] = deque(maxlen=FAILURES_ALL_MAX)

    def wait_s(self, address: str, now_ns: int) -> int:
        """Return how long an address has to wait before it may try again; 0: it may now."""
        found = self._failures.get(_network(address))
        waits = []
        for times, most in ((found, FAILURES_MAX), (self._all, FAILURES_ALL_MAX)):
            if times is not None and len(times) >= most:
                waits.append(times[0] + WINDOW_NS - now_ns)
        return max(0, -(-max(waits, default=0) // NS_PER_S))

    def fail(self, address: str, now_ns: int) -> None:
        """Remember a wrong token."""
        key = _network(address)
        times = self._failures.setdefault(key, deque(maxlen=FAILURES_MAX))
        times.append(now_ns)
        self._failures.move_to_end(key)
        self._all.append(now_ns)
        if len(self._failures) > ADDRESSES_MAX:
            self._failures.popitem(last=False)


def _network(address: str) -> str:
    """Return what counts as one attacker: an IPv6 host has a whole network to itself."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return parsed.exploded[:19] if parsed.version == 6 else address


class Guard:
    """The users of one console, and who of them is logged in."""

    def __init__(self, random: Callable[[], str], secret: bytes) -> None:
        self.throttle = Throttle()
        self._random = random
        self._secret = secret
        self._known: tuple[Known, ...] = ()
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()

    def set_users(self, known: Mapping[str, Known]) -> None:
        """Let these in, and nobody else; whoever has another token than before is logged out."""
        self._known = tuple(known.values())
        kept = {key: session for key, session in self._sessions.items() if session.known in self._known}
        self._sessions = OrderedDict(kept)

    @property
    def has_users(self) -> bool:
        """Whether anybody can log in."""
        return bool(self._known)

    def by_token(self, token: str) -> Known | None:
        """Return whose token it is."""
        if not TOKEN_MIN <= len(token) <= TOKEN_MAX:
            return None
        given, found = digest(token), None
        for known in self._known:
            if known.digest and hmac.compare_digest(given, known.digest):
                found = known  # and on: as long for the first as for the last
        return found

    def by_certificate(self, name: str) -> User | None:
        """Return whose client certificate it is; the TLS library has verified it."""
        return next((known.user for known in self._known if name and known.certificate == name), None)

    def open_session(self, known: Known, now_ns: int) -> str:
        """Log a user in, and return the cookie's value."""
        cookie = self._random()
        self._sessions[digest(cookie)] = _Session(known, now_ns + SESSION_NS)
        if len(self._sessions) > SESSIONS_MAX:
            self._sessions.popitem(last=False)
        return cookie

    def by_session(self, cookie: str, now_ns: int) -> User | None:
        """Return who is logged in."""
        session = self._sessions.get(digest(cookie))
        if session is None or session.ends_ns <= now_ns:
            return None
        return session.known.user

    def close_session(self, cookie: str) -> None:
        """Log out."""
        self._sessions.pop(digest(cookie), None)

    def stamp(self, key: str) -> str:
        """Return what a form must bring along to be one of ours; `key` is the session, or the certificate's user."""
        return hmac.new(self._secret, key.encode(), hashlib.sha256).hexdigest()

    def is_stamp(self, key: str, given: str) -> bool:
        """Tell whether a form is one of ours."""
        return hmac.compare_digest(self.stamp(key).encode(), given.encode())


def same_origin(host: str, origin: str, site: str) -> bool:
    """Tell whether a request that changes something was made by our own page, as browsers say."""
    if origin:
        return bool(host) and urlsplit(origin).netloc.lower() == host.lower()
    return site == "same-origin"


def is_loopback(host: str) -> bool:
    """Tell whether an address to listen on is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def own_name(host: str, names: tuple[str, ...]) -> bool:
    """Tell whether a Host header names us; a page that points its own name at this machine does not.

    Addresses cannot be pointed anywhere, so every one is good.
    """
    try:
        name, _ = split_host_port(host)
        name = name.lower().rstrip(".")
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost") or name in names:
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
