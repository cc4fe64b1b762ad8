from __future__ import annotations

import struct

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawatch.plugin import Result
from hawatch.probes.dns import DnsOptions
from hawatch.probes.dns_answers import Asked, Question, serial_behind

SOA = "ns.example. root.example. {} 1 1 1 1"


def ask(**options) -> Asked:
    return Question(DnsOptions(**options)).ask()


def answer(asked: Asked, *records: tuple[str, str, str], rcode: str = "NOERROR", flags: int = 0) -> bytes:
    reply = dns.message.make_response(asked.query)
    reply.flags |= flags
    reply.set_rcode(dns.rcode.from_text(rcode))
    reply.answer = [dns.rrset.from_text(name, 60, "IN", kind, text) for name, kind, text in records]
    return reply.to_wire()


def judge(asked: Asked, wire: bytes, siblings=None) -> Result:
    assert not asked.stray(wire)
    return asked.judge(wire, siblings or {}, "UDP")


def test_good_answer() -> None:
    asked = ask(name="example.org")
    result = judge(asked, answer(asked, ("example.org.", "SOA", SOA.format(7)), flags=dns.flags.AA))
    assert result.ok
    assert result.facts == {"serial": 7}
    assert result.detail.endswith("bytes over UDP, authoritative")


def test_wanted_rcode() -> None:
    asked = ask(name="example.org")
    assert judge(asked, answer(asked, rcode="SERVFAIL")).reason == "SERVFAIL for example.org SOA, wanted NOERROR"
    asked = ask(name="nx.example.org", rcode="nxdomain")
    assert judge(asked, answer(asked, rcode="NXDOMAIN")).ok
    assert judge(asked, answer(asked)).reason == "NOERROR for nx.example.org SOA, wanted NXDOMAIN"


def test_refused_without_the_question_counts_as_an_answer() -> None:
    asked = ask(name="example.org")
    reply = dns.message.make_response(asked.query)
    reply.question = []
    reply.set_rcode(dns.rcode.REFUSED)
    assert judge(asked, reply.to_wire()).reason == "REFUSED for example.org SOA, wanted NOERROR"


def test_empty_answer() -> None:
    asked = ask(name="example.org", record="A")
    assert judge(asked, answer(asked)).reason == "no records for example.org A (NOERROR, but an empty answer)"
    asked = ask(name="example.org", record="A", allow_empty=True)
    assert judge(asked, answer(asked)).ok


def test_authoritative() -> None:
    asked = ask(name="example.org", record="A", authoritative=True)
    record = ("example.org.", "A", "192.0.2.1")
    assert judge(asked, answer(asked, record)).reason == "answer to example.org A is not authoritative"
    assert judge(asked, answer(asked, record, flags=dns.flags.AA)).ok


A1, A2 = ("example.org.", "A", "192.0.2.1"), ("example.org.", "A", "192.0.2.2")


@pytest.mark.parametrize(
    ("match", "records", "reason"),
    [
        ("subset", [A1], ""),
        ("subset", [A1, A2], ""),
        ("subset", [A2], "answer to example.org A lacks 192.0.2.1, has 192.0.2.2"),
        ("exact", [A1], ""),
        ("exact", [A1, A2], "answer to example.org A has 192.0.2.2 beside what is wanted"),
    ],
)
def test_wanted_answers(match: str, records: list, reason: str) -> None:
    asked = ask(name="example.org", record="A", answers=["192.0.2.1"], match=match)
    assert judge(asked, answer(asked, *records)).reason == reason


def test_wanted_answers_compare_as_records_not_as_text() -> None:
    asked = ask(name="example.org", record="MX", answers=["10 MAIL.example.org"], match="exact")
    assert judge(asked, answer(asked, ("example.org.", "MX", "10 mail.EXAMPLE.org."))).ok


def test_alias_is_followed_and_a_stranger_is_not() -> None:
    asked = ask(name="www.example.org", record="A", answers=["192.0.2.1"])
    alias = ("www.example.org.", "CNAME", "example.org.")
    assert judge(asked, answer(asked, alias, A1)).ok
    assert judge(asked, answer(asked, A1)).reason.startswith("no records for www.example.org A")
    loop = ("example.org.", "CNAME", "www.example.org.")
    assert not judge(asked, answer(asked, alias, loop)).ok


def test_serial_against_the_other_servers() -> None:
    def with_serial(serial: int, siblings: dict, lag: int | None = 0) -> Result:
        asked = ask(name="example.org", serial_lag=lag)
        return judge(asked, answer(asked, ("example.org.", "SOA", SOA.format(serial))), siblings)

    others = {"10.0.0.2": {"serial": 10}, "10.0.0.3": {}, "10.0.0.4": {"serial": 9}}
    result = with_serial(8, others)
    assert result.reason == "serial 8 of example.org is 2 behind 10.0.0.2's 10, wanted at most 0 behind"
    assert result.facts == {"serial": 8}
    assert with_serial(8, others, 2).ok
    assert with_serial(8, others, None).ok
    assert with_serial(11, others).ok
    assert with_serial(8, {}).ok
    assert with_serial(2, {"a": {"serial": 2**32 - 1}}).ok
    assert not with_serial(2**32 - 1, {"a": {"serial": 2}}).ok


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**31 - 1))
def test_serial_arithmetic(serial: int, step: int) -> None:
    later = (serial + step) % 2**32
    assert serial_behind(serial, later) == step
    assert serial_behind(later, serial) == 0


def test_strays() -> None:
    asked = ask(name="example.org", record="A")
    wire = answer(asked, A1)
    assert asked.stray(wire) == ""
    assert asked.stray(bytes([wire[0] ^ 1]) + wire[1:]) == "answers with a wrong id"
    assert asked.stray(asked.wire) == "questions"
    assert asked.stray(b"junk") == "malformed messages"
    assert asked.stray(wire[:4] + b"\xff\xff" + wire[6:]) == "answers to several questions"
    other = ask(name="example.net", record="A")
    other.query.id = asked.query.id
    assert asked.stray(answer(other)) == "answers to another question"


def bomb(asked: Asked, records: int) -> bytes:
    """Return an answer whose every name is a pointer to one of a hundred labels: 64 KiB that took half a minute."""
    wire = asked.wire[:2] + b"\x84\0" + struct.pack("!HHHH", 1, 0, 1, records) + asked.wire[12:]
    pointer = struct.pack("!H", 0xC000 | len(wire))
    wire += b"\1a" * 110 + b"\0" + struct.pack("!HHIH", 65280, 1, 0, 0)
    return wire + (pointer + struct.pack("!HHIH", 15, 1, 0, 4) + b"\0\0" + pointer) * records


def test_an_answer_of_too_many_records_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ask(name="example.org")
    assert judge(asked, bomb(asked, 127)).reason == "no records for example.org SOA (NOERROR, but an empty answer)"
    monkeypatch.setattr(dns.message._WireReader, "_get_section", lambda *_: pytest.fail("records were read"))
    reason = "answer to example.org SOA has 4001 records, at most 128 are read"
    assert judge(asked, bomb(asked, 4000)).reason == reason


def test_an_answer_that_is_malformed_ends_the_wait() -> None:
    asked = ask(name="example.org", record="A")
    wire = answer(asked, A1)
    loop = wire[:-16] + struct.pack("!H", 0xC000 | len(wire) - 16) + wire[-14:]
    for broken in (wire[:-3], loop, wire[:7] + b"\xff" + wire[8:]):
        assert judge(asked, broken).reason.startswith(("answer to example.org A is malformed: ", "answer to example"))
        assert not judge(asked, broken).ok


@given(st.binary(max_size=600))
def test_junk_never_raises(junk: bytes) -> None:
    asked = ask(name="example.org")
    for wire in (junk, asked.wire[:2] + b"\x84\x00" + junk):
        if not asked.stray(wire):
            asked.judge(wire, {}, "UDP")
