"""The status as people look at it."""

from __future__ import annotations

import pytest

from hawatch.control.view import Tone, number_text, quorum_sentence, read_view, summary, tone_of, troubles
from tests.unit.console.page.sample import server, service, view


def test_all_is_well():
    found = view()
    assert troubles(found) == []
    assert summary(found) == (Tone.GOOD, "All is well: 2 of 2 servers up")
    assert summary(view(warnings=["the disk is full"]))[0] is Tone.WARN
    assert [found.services[0].total(key) for key in ("active", "connections_per_s", "inactive")] == [12, 7, 3]
    assert view(services=[service(server())]).services[0].total("active") is None


def test_a_status_that_grew_or_broke():
    assert read_view(b'{"cluster": "a", "node": "b", "news": [1]}').node == "b"
    assert read_view(b"") is None
    assert read_view(b'{"cluster": 1}') is None


@pytest.mark.parametrize(
    ("change", "words", "tone"),
    [
        ({"quorum": {"mode": "witness", "held": False, "acceptors": 3, "reachable": 1}}, "no quorum", Tone.BAD),
        ({"groups": [{"name": "web", "state": "standby", "owner": ""}]}, "nobody owns it", Tone.BAD),
        ({"groups": [{"name": "web", "state": "conflict", "owner": "lvs1"}]}, "group web: conflict", Tone.BAD),
        ({"directors": [{"name": "lvs2", "state": "dead", "links": [{"address": "::1", "state": "down"}]}]},
         "lvs2 dead", Tone.WARN),
        ({"directors": [{"name": "lvs2", "state": "alive", "links": [{"address": "::1", "state": "down"}]}]},
         "link ::1 down", Tone.WARN),
        ({"services": [service(server(state="down"))]}, "service http: no server up, 1 server down", Tone.BAD),
        ({"services": [service(server(), server("192.0.2.2", "down"))]}, "1 server down", Tone.WARN),
        ({"workers": [{"name": "prober", "state": "lost"}]}, "process prober lost", Tone.WARN),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(change, words, tone):
    found = summary(view(**change))
    assert words in found[1]
    assert found[0] is tone


@pytest.mark.parametrize(
    ("states", "tone"),
    [
        (["up", "up"], Tone.GOOD), (["up", "draining"], Tone.GOOD), (["up", "down"], Tone.WARN),
        (["down", "disabled"], Tone.BAD), (["unknown"], Tone.WARN), ([], Tone.BAD),
    ],
)  # fmt: skip
def test_tone_of_a_service(states, tone):
    servers = [server(f"192.0.2.{number + 1}", state) for number, state in enumerate(states)]
    assert view(services=[service(*servers)]).services[0].tone is tone
    assert view(services=[service(*servers, state="standby")]).services[0].tone is Tone.IDLE


def test_the_sorry_server_is_no_server():
    found = view(services=[service(server(state="down"), server("192.0.2.9", sorry=True))]).services[0]
    assert (found.up_count, len(found.real), found.tone) == (0, 1, Tone.BAD)


def test_words():
    assert tone_of("something new") is Tone.WARN
    assert view(services=[service(fwmark=7)]).services[0].place == "fwmark 7"
    assert view(services=[service(address="2001:db8::1")]).services[0].place == "tcp [2001:db8::1]:80"
    assert quorum_sentence(view(quorum={"mode": "none"}).quorum) == "no quorum is kept"
    assert quorum_sentence(view().quorum) == "witness quorum held: 3 of 3 reachable; 3 of 3 nodes answer"
    texts = [number_text(value) for value in (None, 0, 950, 1200, 34_000_000, 2.5e9, 999_999)]
    assert texts == ["", "0", "950", "1.2k", "34.0M", "2.5G", "1000k"]
