"""Datagrams and their answers."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from hawatch.agent.runner import run_probe
from hawatch.model import NS_PER_MS, NS_PER_S, Route
from hawatch.plugin import Attempt, Result, Target
from hawatch.probes.udp import UdpOptions, UdpProbe
from tests.unit.servers import closed_port, udp_server

SHORT_NS = 250 * NS_PER_MS


async def ask(
    port: int, timeout_ns: int = 5 * NS_PER_S, address: str = "127.0.0.1", route: Route | None = None, **options: object
) -> Result:
    made = UdpOptions.model_validate({"send": "ping"} | options)
    return (await run_probe(UdpProbe(made, Target(address, port, route=route)), Attempt(timeout_ns))).result


def echo(query: bytes) -> bytes:
    return b"you said " + query


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_answer(host: str) -> None:
    async with udp_server(echo, host=host) as port:
        for options in ({}, {"expect": "said ping"}, {"expect_regex": "^you.*ping$"}, {"silence_is_up": True}):
            result = await ask(port, address=host, **options)
            assert (result.ok, result.detail) == (True, 'answer: "you said ping"')
        assert (await ask(port, address=host, send="", send_hex="00 ff", expect_regex=r"\x00\xff$")).ok


async def test_an_answer_that_is_not_as_wanted() -> None:
    async with udp_server(echo) as port:
        reason = 'no answer with "pong" (only "you said ping" came) in 250 ms'
        assert (await ask(port, SHORT_NS, expect="pong")).reason == reason
        slow = await ask(port, expect_regex="(a|a)+$", send="a" * 40 + "b")
        assert slow.reason.startswith('looking for "(a|a)+$" in 50 bytes took more than 50 ms')


async def test_an_answer_from_elsewhere() -> None:
    async with udp_server(echo, elsewhere=True) as port:
        reason = (await ask(port, SHORT_NS)).reason
    assert reason.startswith("no answer (only answers from 127.0.0.1:")


async def test_a_flood_of_answers_to_nothing() -> None:
    async with udp_server(*[echo] * 1000) as port:
        assert (await ask(port, expect="pong")).reason in (
            'no answer with "pong" among 1000 datagrams',
            'no answer with "pong" (only "you said ping" came) in 5 s',  # where the kernel dropped some
        )


async def test_silence() -> None:
    async with udp_server(lambda _query: None) as port:
        assert (await ask(port, SHORT_NS)).reason == "no answer in 250 ms"
        result = await ask(port, SHORT_NS, silence_is_up=True)
        assert (result.ok, result.detail) == (True, "no answer, and no word that the port is closed")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("silence_is_up", [False, True])
async def test_a_closed_port(host: str, silence_is_up: bool) -> None:
    assert (await ask(await closed_port(), address=host, silence_is_up=silence_is_up)).reason == "connection refused"


async def test_a_way_of_its_own() -> None:
    result = await ask(7, route=Route(interface="nosuch0"))
    assert (result.reason, result.inconclusive) == ("this machine has no such interface", True)


async def test_no_port() -> None:
    probe = UdpProbe(UdpOptions(send="x"), Target("127.0.0.1", None))
    assert (await run_probe(probe, Attempt(NS_PER_S))).result.reason == "no port to ask"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"send": "a", "send_hex": "00"},
        {"send_hex": "0"},
        {"send": "a", "expect": "b", "expect_regex": "c"},
        {"send": "a", "expect_regex": "("},
    ],
)
def test_options_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        UdpOptions.model_validate(options)
