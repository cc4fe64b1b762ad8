from __future__ import annotations

import pytest

from hawatch.console.page.deeds import Deed, consequences, label, offered, parse, request_of
from hawatch.control import protocol
from hawatch.control.protocol import asker, decode_request, encode_line
from hawatch.errors import UsageError
from tests.unit.console.page.sample import server, service, view

DEEDS = (
    Deed("drain", "http", "192.0.2.1:80"), Deed("undrain", "http", "192.0.2.1:80"), Deed("ack", "http"),
    Deed("disable", "http", "192.0.2.1:80"), Deed("enable", "http", "192.0.2.1:80"), Deed("giveaway"),
    Deed("resume"), Deed("switchover", group="web", to="lvs2"), Deed("ack", "http", "192.0.2.1:80"),
)  # fmt: skip


@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.words)
def test_there_and_back(deed):
    assert parse(deed.words) == deed
    made = request_of(deed, "alice", "on it")
    sent = decode_request(encode_line(made))
    assert sent == made
    assert asker(sent) == "alice"
    assert label(deed)
    assert consequences(deed, view())
    assert deed.command.startswith("hawatch ctl ")


@pytest.mark.parametrize(
    "words", ["", "drain", "drain http", "takeover web", "drain a b c", "reload", "switchover web"]
)
def test_what_is_no_action(words):
    with pytest.raises(UsageError):
        parse(words)


@pytest.mark.parametrize(
    "words",
    ["drain none 192.0.2.1:80", "drain http 192.0.2.77:80", "switchover none lvs2", "switchover web none", "ack none"],
)
def test_what_is_not_there(words):
    with pytest.raises(UsageError, match="there is no"):
        consequences(parse(words), view())


def said(words, found=None):
    return " ".join(consequences(parse(words), found or view()))


def test_what_an_action_will_do():
    drain = said("drain http 192.0.2.1:80")
    assert "weight 0 in service http: no new connections; its 12 connections go on." in drain
    assert "1 of its 2 servers takes the load then." in drain
    assert "its 12 connections break." in said("disable http 192.0.2.1:80")
    alone = view(services=[service(server())])
    assert "nobody is left to serve its clients" in said("drain http 192.0.2.1:80", alone)
    sorry = view(services=[service(server(), server("192.0.2.9", sorry=True))])
    assert "clients are sent to the sorry server 192.0.2.9:80" in said("drain http 192.0.2.1:80", sorry)
    assert "Group web (192.0.2.110/32) moves from lvs1 to lvs2 now." in said("switchover web lvs2")
    assert "lvs1 gives web away" in said("giveaway")
    assert "lvs2 can own it" in said("giveaway")
    dead = view(directors=[{"name": "lvs2", "state": "dead"}])
    assert "lvs2 is dead" in said("switchover web lvs2", dead)
    assert "No other director is alive" in said("giveaway", dead)


@pytest.mark.parametrize(
    ("state", "verbs"),
    [("up", "drain disable"), ("down", "disable ack"), ("draining", "undrain disable"), ("disabled", "enable"),
     ("news", "drain disable")],
)  # fmt: skip
def test_what_is_offered(state, verbs):
    found = view(services=[service(server(state=state), server("192.0.2.9", sorry=True))]).services[0].servers
    assert [deed.verb for deed in offered("http", found[0])] == verbs.split()
    assert offered("http", found[1]) == ()


def test_a_request_without_a_name_is_as_it_ever_was():
    assert b"user" not in encode_line(protocol.Status())
    assert asker(protocol.Giveaway()) == ""
    assert len(asker(protocol.Giveaway(user="x" * 500))) == protocol.USER_LIMIT
