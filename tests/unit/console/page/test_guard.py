from __future__ import annotations

import itertools

import pytest

from hawatch.console.page.guard import (
    ADDRESSES_MAX,
    FAILURES_ALL_MAX,
    FAILURES_MAX,
    SESSION_NS,
    SESSIONS_MAX,
    WINDOW_NS,
    Guard,
    Known,
    Throttle,
    User,
    digest,
    is_loopback,
    own_name,
    same_origin,
)

TOKEN, OTHER = "a-token-that-is-long", "another-that-is-long"
ALICE = Known(User("alice", acts=True), digest(TOKEN))
BOB = Known(User("bob", acts=False), digest(OTHER), "bob.example.org")


def make_guard():
    numbers = itertools.count()
    guard = Guard(lambda: f"cookie{next(numbers)}", b"secret")
    guard.set_users({"alice": ALICE, "bob": BOB})
    return guard


def test_tokens_and_certificates():
    guard = make_guard()
    assert (guard.by_token(TOKEN), guard.by_token(OTHER)) == (ALICE, BOB)
    for wrong in ("", "short", TOKEN + "x", "x" * 10_000, "né" * 20):
        assert guard.by_token(wrong) is None
    assert guard.by_certificate("bob.example.org") == BOB.user
    assert guard.by_certificate("") is None, "alice has no certificate, and that is none"
    guard.set_users({"carol": Known(User("carol", acts=True))})
    assert guard.by_token("") is None


def test_sessions_end():
    guard = make_guard()
    cookie = guard.open_session(ALICE, 0)
    assert guard.by_session(cookie, SESSION_NS - 1) == ALICE.user
    assert guard.by_session(cookie, SESSION_NS) is None
    guard.close_session(cookie)
    assert guard.by_session(cookie, 1) is None
    cookies = [guard.open_session(ALICE, 0) for _ in range(SESSIONS_MAX + 1)]
    assert guard.by_session(cookies[0], 1) is None
    assert guard.by_session(cookies[1], 1) == ALICE.user


def test_another_token_logs_out():
    guard = make_guard()
    cookies = [guard.open_session(ALICE, 0), guard.open_session(BOB, 0)]
    guard.set_users({"alice": Known(ALICE.user, digest(OTHER)), "bob": BOB})
    assert [guard.by_session(cookie, 1) for cookie in cookies] == [None, BOB.user]


def test_stamps_are_of_one_session():
    guard = make_guard()
    assert guard.is_stamp("a", guard.stamp("a"))
    assert not guard.is_stamp("b", guard.stamp("a"))
    assert not guard.is_stamp("a", "")
    assert not guard.is_stamp("a", "é")


def test_too_many_wrong_tokens():
    throttle = Throttle()
    for number in range(FAILURES_MAX):
        assert throttle.wait_s("192.0.2.1", number) == 0
        throttle.fail("192.0.2.1", number)
    assert throttle.wait_s("192.0.2.1", FAILURES_MAX) == WINDOW_NS // 10**9
    assert throttle.wait_s("192.0.2.2", FAILURES_MAX) == 0
    assert throttle.wait_s("192.0.2.1", WINDOW_NS) == 0
    for number in range(FAILURES_MAX):
        throttle.fail(f"2001:db8::{number}", 0)
    assert throttle.wait_s("2001:db8::ffff", 1) > 0, "one network is one attacker"
    for number in range(FAILURES_ALL_MAX):
        throttle.fail(f"10.0.{number}.1", 5)
    assert throttle.wait_s("192.0.2.200", 6) > 0, "and many are many"


def test_the_memory_of_attackers_is_bounded():
    throttle = Throttle()
    for number in range(ADDRESSES_MAX + 10):
        throttle.fail(f"host{number}", number * WINDOW_NS)
    assert len(throttle._failures) == ADDRESSES_MAX


@pytest.mark.parametrize(
    ("host", "origin", "site", "good"),
    [
        ("127.0.0.1:9694", "http://127.0.0.1:9694", "", True),
        ("lvs1:9694", "https://LVS1:9694", "", True),
        ("127.0.0.1:9694", "http://evil.example", "same-origin", False),
        ("127.0.0.1:9694", "http://127.0.0.1:1", "", False),
        ("127.0.0.1:9694", "null", "", False),
        ("127.0.0.1:9694", "", "same-origin", True),
        ("127.0.0.1:9694", "", "cross-site", False),
        ("127.0.0.1:9694", "", "", False),
        ("", "null", "", False),
    ],
)
def test_where_a_request_comes_from(host, origin, site, good):
    assert same_origin(host, origin, site) is good


@pytest.mark.parametrize(
    ("host", "good"),
    [("127.0.0.1:9694", True), ("[::1]:9694", True), ("localhost:9694", True), ("a.localhost", True), ("lvs1:1", True),
     ("LVS1.", True), ("evil.example:9694", False), ("", False), ("localhost.evil.example", False), ("a:b:c", False)],
)  # fmt: skip
def test_names_that_are_ours(host, good):
    assert own_name(host, ("lvs1",)) is good


def test_loopback():
    hosts = {"127.0.0.1": True, "::1": True, "localhost": True, "0.0.0.0": False, "::": False, "lvs1": False}
    assert {host: is_loopback(host) for host in hosts} == hosts
