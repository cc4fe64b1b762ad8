"""Questions and answers of the dns probe: building the one, judging the other. No I/O."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
from dns.rdtypes.ANY.SOA import SOA

from hawatch.plugin import Result, down, up
from hawatch.text import clean, cut

if TYPE_CHECKING:
    from hawatch.probes.dns import DnsOptions

EDNS_SIZE = 1232
"""Bytes of UDP that pass everywhere unfragmented."""
RECORDS_SHOWN = 8
CHAIN_LIMIT = 12
"""CNAMEs followed within an answer."""
RECORDS_LIMIT = 128
"""Records of an answer, of all its sections: reading many takes long, and no other check runs meanwhile."""
HEADER = struct.Struct("!HHHHHH")
"""Id, flags, and how many entries each section has: RFC 1035 section 4.1.1."""
SERIAL_RANGE = 1 << 32


def parse_records(record: str, texts: Iterable[str]) -> frozenset[dns.rdata.Rdata]:
    """Return records written as in a zone file; raise ValueError for what is none of the type."""
    found = set()
    for text in texts:
        try:
            found.add(dns.rdata.from_text("IN", record, text, origin=dns.name.root, relativize=False))
        except (dns.exception.DNSException, ValueError) as error:
            raise ValueError(f'answers: "{text}" is no {record} record: {error}') from error
    return frozenset(found)


def serial_behind(serial: int, other: int) -> int:
    """Return by how much `serial` is older than `other`, 0 where it is not: RFC 1982 section 3.2."""
    difference = (other - serial) % SERIAL_RANGE
    return difference if difference < SERIAL_RANGE // 2 else 0


class Question:
    """What to ask, and what the answer must be."""

    def __init__(self, options: DnsOptions) -> None:
        self.options = options
        self.name = dns.name.from_text(options.name)
        self.type = dns.rdatatype.from_text(options.record)
        self.wanted = parse_records(options.record, options.answers)

    def __str__(self) -> str:
        return f"{self.name.to_text(omit_final_dot=True)} {self.options.record}"

    def ask(self) -> Asked:
        """Return the question with a fresh id."""
        query = dns.message.make_query(
            self.name,
            self.type,
            use_edns=0 if self.options.edns else False,
            payload=EDNS_SIZE,
            flags=dns.flags.RD if self.options.recursion else 0,
        )
        return Asked(self, query)


class Asked:
    """A question that was put to a server."""

    def __init__(self, question: Question, query: dns.message.QueryMessage) -> None:
        self.question = question
        self.query = query
        self.wire = query.to_wire()

    def stray(self, wire: bytes) -> str:
        """Return what a datagram is if it is no answer to the question, else "". Reads no record: that is cheap."""
        try:
            if len(wire) >= HEADER.size and HEADER.unpack_from(wire)[2] > 1:
                return "answers to several questions"
            answer = dns.message.from_wire(wire, question_only=True)
        except (dns.exception.DNSException, ValueError):
            return "malformed messages"
        if not answer.flags & dns.flags.QR:
            return "questions"
        if answer.id != self.query.id:
            return "answers with a wrong id"
        return "" if self.query.is_response(answer) else "answers to another question"

    def is_truncated(self, wire: bytes) -> bool:
        """Tell whether the answer's TC bit is set."""
        return len(wire) > 2 and bool(wire[2] & 0x02)

    def judge(self, wire: bytes, siblings: Mapping[str, Mapping[str, int]], transport: str) -> Result:
        """Return what the answer amounts to; it is no stray."""
        options, question = self.question.options, self.question
        count = sum(HEADER.unpack_from(wire)[3:])
        if count > RECORDS_LIMIT:
            return down(f"answer to {question} has {count} records, at most {RECORDS_LIMIT} are read")
        try:
            answer = dns.message.from_wire(wire, ignore_trailing=True)
        except (dns.exception.DNSException, ValueError) as error:
            return down(f"answer to {question} is malformed: {cut(clean(str(error)))}")
        rcode = dns.rcode.to_text(answer.rcode())
        if rcode != options.rcode:
            return down(f"{rcode} for {question}, wanted {options.rcode}")
        if options.authoritative and not answer.flags & dns.flags.AA:
            return down(f"answer to {question} is not authoritative")
        records = self._records(answer)
        wrong = self._records_wrong(records) if rcode == "NOERROR" else ""
        facts = serial_of(records)
        wrong = wrong or self._serial_wrong(facts, siblings)
        mark = ", authoritative" if answer.flags & dns.flags.AA else ""
        detail = f"{rcode}, {show(records) or 'no records'}, {len(wire)} bytes over {transport}{mark}"
        return Result(ok=False, reason=wrong, detail=detail, facts=facts) if wrong else up(detail, **facts)

    def _records(self, answer: dns.message.Message) -> frozenset[dns.rdata.Rdata]:
        """Return the records of the wanted type, those that a chain of CNAMEs leads to included."""
        names = {self.question.name}
        for _ in range(CHAIN_LIMIT):
            for rrset in answer.answer:
                if rrset.rdtype == dns.rdatatype.CNAME and rrset.name in names:
                    names.update(record.target for record in rrset)
        return frozenset(
            record
            for rrset in answer.answer
            if rrset.name in names and self.question.type in (rrset.rdtype, dns.rdatatype.ANY)
            for record in rrset
        )

    def _records_wrong(self, records: frozenset[dns.rdata.Rdata]) -> str:
        question, wanted = self.question, self.question.wanted
        if not records and not question.options.allow_empty:
            return f"no records for {question} (NOERROR, but an empty answer)"
        if wanted - records:
            return f"answer to {question} lacks {show(wanted - records)}, has {show(records) or 'nothing'}"
        if question.options.match == "exact" and wanted and records - wanted:
            return f"answer to {question} has {show(records - wanted)} beside what is wanted"
        return ""

    def _serial_wrong(self, facts: Mapping[str, int], siblings: Mapping[str, Mapping[str, int]]) -> str:
        """Compare the serial with those of the other servers."""
        allowed = self.question.options.serial_lag
        if allowed is None or "serial" not in facts:
            return ""
        behind = {
            address: serial_behind(facts["serial"], theirs["serial"])
            for address, theirs in siblings.items()
            if "serial" in theirs
        }
        newest = max(behind, key=lambda address: behind[address], default="")
        if not newest or behind[newest] <= allowed:
            return ""
        theirs = siblings[newest]["serial"]
        name = self.question.name.to_text(omit_final_dot=True)
        return (
            f"serial {facts['serial']} of {name} is {behind[newest]} behind {newest}'s {theirs}, "
            f"wanted at most {allowed} behind"
        )


def serial_of(records: Iterable[dns.rdata.Rdata]) -> dict[str, int]:
    """Return the facts of an answer: the serial, where there is exactly one SOA."""
    serials = {record.serial for record in records if isinstance(record, SOA)}
    return {"serial": serials.pop()} if len(serials) == 1 else {}


def show(records: Iterable[dns.rdata.Rdata]) -> str:
    """Return records as text, cut."""
    texts = sorted(clean(record.to_text()) for record in records)
    more = f" and {len(texts) - RECORDS_SHOWN} more" if len(texts) > RECORDS_SHOWN else ""
    return cut(", ".join(texts[:RECORDS_SHOWN])) + more
