"""What a node makes of datagrams before their messages count: proofs, copies, questions."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hawatch.cluster.membership import GroupSettings, Member, Membership
from hawatch.cluster.node import Node
from hawatch.cluster.reception import NONCES_MAX, QUESTIONS_PER_HEARTBEAT
from hawatch.cluster.wire import (
    Codec,
    Deny,
    Grant,
    Heartbeat,
    Message,
    Ping,
    Pong,
    Rejection,
    Release,
    Request,
    encode_messages,
    identifier,
)
from tests.unit.cluster.small_site import PARAMETERS, RING, T_NS

R_NS = PARAMETERS.heartbeat_ns
MEMBERS = (
    Member("a", ("192.0.2.1", "198.51.100.1")),
    Member("b", ("192.0.2.2", "198.51.100.2")),
    Member("w", ("192.0.2.3", "198.51.100.3"), votes_only=True),
)
A, B, W = (identifier(name) for name in "abw")
WEB = identifier("web")


class Hearing:
    """One node, and what the others send it."""

    def __init__(self, name: str = "a") -> None:
        self.membership = Membership("site", name, MEMBERS, (GroupSettings("web", "a"),), PARAMETERS)
        self.now_ns = 1000 * T_NS
        self.node = Node(
            self.membership, RING, boot=5, random=random.Random(1), now_ns=self.now_ns, silent=False
        )  # fmt: skip
        self.codec = Codec("site", [A, B, W], RING, self.membership.digest)
        self.node.start(self.now_ns)
        self.clear()

    def clear(self) -> None:
        self.node.site.outbox.clear()

    def hear(self, sender: int, boot: int, sequence: int, *messages: Message, link: int = 0) -> list[Message]:
        """Deliver a datagram; return what the node wants to answer its sender."""
        (body,) = encode_messages(messages)
        data = self.codec.encode(sender, boot, sequence, body)
        self.node.hear(link, data, self.now_ns)
        answers = self.node.site.outbox.get(sender, [])
        self.clear()
        return answers

    def believe(self, sender: int, boot: int, sequence: int = 1) -> None:
        """Let a sender prove its boot, some time after it was asked last."""
        self.now_ns += R_NS
        asked = self.hear(sender, boot, sequence, Heartbeat(1, 0, 0))
        (question,) = [each for each in asked if isinstance(each, Ping)]
        self.hear(sender, boot, sequence + 1, Pong(question.nonce, 0))
        assert self.node.reception.boot_of(sender) == boot


def kinds(messages: Sequence[Message]) -> list[type[Message]]:
    return [type(each) for each in messages]


def test_a_boot_that_has_proved_nothing_is_answered_and_asked_and_no_more() -> None:
    hearing = Hearing()
    acceptor = hearing.node.site.acceptor
    request = Request(WEB, 1, 77, T_NS, 1)
    answers = hearing.hear(B, 9, 1, Ping(42), Heartbeat(1, 15, 1), request)
    assert kinds(answers) == [Pong, Ping]
    assert answers[0] == Pong(42, 0)
    assert acceptor.lease(WEB, hearing.now_ns) is None
    report = hearing.node.site.reports[B]
    assert (report.fitness, report.flags, report.members) == (0, 0, 0)
    assert not hearing.node.site.alive(B)
    # Any answer but the one to what it was asked proves nothing, nor does the answer of another boot.
    assert isinstance(answers[1], Ping)
    nonce = answers[1].nonce
    hearing.hear(B, 9, 2, Pong(nonce ^ 1, 0), request)
    assert hearing.node.reception.boot_of(B) == 0
    hearing.hear(W, 9, 3, Pong(nonce, 0))
    assert hearing.node.reception.boot_of(W) == 0
    hearing.hear(B, 9, 4, Pong(nonce, 0), request)
    assert hearing.node.reception.boot_of(B) == 9
    assert acceptor.lease(WEB, hearing.now_ns) is not None


def test_a_boot_that_has_proved_nothing_is_asked_four_times_a_heartbeat_at_most() -> None:
    hearing, asked = Hearing(), 0
    for sequence in range(1, 101):
        asked += kinds(hearing.hear(B, 9, sequence, Heartbeat(sequence, 0, 0))).count(Ping)
        hearing.now_ns += R_NS // 50
    assert asked == 2 * QUESTIONS_PER_HEARTBEAT


def test_a_later_boot_that_proved_itself_begins_anew_and_the_older_one_is_refused() -> None:
    hearing = Hearing()
    hearing.believe(B, 9)
    hearing.hear(B, 9, 5, Heartbeat(100, 15, 1))
    report = hearing.node.site.reports[B]
    assert (report.fitness, report.flags) == (15, 1)
    hearing.believe(B, 10)
    report = hearing.node.site.reports[B]
    assert (report.fitness, report.flags) == (0, 0)
    assert hearing.node.site.detector.peers[B].beat == -1
    hearing.hear(B, 9, 6, Heartbeat(101, 15, 1), Request(WEB, 1, 77, T_NS, 1))
    assert (report.fitness, report.flags) == (0, 0)
    assert hearing.node.site.acceptor.lease(WEB, hearing.now_ns) is None
    assert hearing.node.reception.rejections[Rejection.OLD_BOOT] == 1


def test_an_older_boot_is_told_of_the_believed_one_once_a_heartbeat() -> None:
    hearing = Hearing()
    hearing.believe(B, 9)
    told = []
    for sequence in range(1, 101):
        told += hearing.hear(B, 8, sequence, Ping(sequence))
        hearing.now_ns += R_NS // 50
    assert told == [Pong(1, 9), Pong(51, 9)]


def test_a_copy_by_another_link_is_a_sign_of_life_of_that_link_and_nothing_else() -> None:
    hearing = Hearing()
    hearing.believe(B, 9)
    messages = (Heartbeat(50, 15, 1), Ping(7), Request(WEB, 1, 77, T_NS, 1))
    assert kinds(hearing.hear(B, 9, 5, *messages)) != []
    links = hearing.node.site.detector.peers[B].links
    assert [link.up for link in links] == [True, False]
    acceptor = hearing.node.site.acceptor
    acceptor.release(B, (9, 1), WEB)
    assert hearing.hear(B, 9, 5, *messages, link=1) == []
    assert [link.up for link in links] == [True, True]
    assert acceptor.lease(WEB, hearing.now_ns) is None
    assert hearing.node.reception.rejections[Rejection.DUPLICATE] == 1


def test_a_copy_of_what_an_unproved_boot_sent_is_no_sign_of_life() -> None:
    hearing = Hearing()
    hearing.believe(B, 9)
    hearing.hear(B, 10, 1, Heartbeat(500, 15, 1))
    hearing.hear(B, 10, 1, Heartbeat(500, 15, 1), link=1)
    peer = hearing.node.site.detector.peers[B]
    assert (peer.beat, [link.beat for link in peer.links]) == (-1, [-1, -1])


def test_only_an_answer_to_a_question_asked_lately_shows_that_this_node_is_heard() -> None:
    hearing = Hearing()
    hearing.believe(B, 9)
    reception, report = hearing.node.reception, hearing.node.site.reports[B]
    nonces = [reception.new_nonce(hearing.now_ns) for _ in range(NONCES_MAX + 1)]
    proven_ns = report.proven_ns
    hearing.now_ns += 1
    hearing.hear(B, 9, 10, Pong(nonces[0], 5))
    hearing.hear(B, 9, 11, Pong(nonces[1] ^ 1, 5))
    assert report.proven_ns == proven_ns
    hearing.hear(B, 9, 12, Pong(nonces[1], 5))
    assert report.proven_ns == hearing.now_ns
    assert len(reception.nonces) == len(reception.asked_ns) == NONCES_MAX


def test_a_witness_asks_back_once_a_lease() -> None:
    hearing = Hearing("w")
    hearing.believe(A, 9)
    asked = 0
    for sequence in range(10, 110):
        answers = hearing.hear(A, 9, sequence, Ping(sequence))
        assert Pong(sequence, 9) in answers
        asked += kinds(answers).count(Ping)
        hearing.now_ns += T_NS // 50
    assert asked == 2


def test_a_witness_grants_to_directors_with_its_own_list_of_members_alone() -> None:
    hearing = Hearing("w")
    hearing.believe(A, 9)
    hearing.codec.members ^= 1
    (answer,) = hearing.hear(A, 9, 10, Request(WEB, 1, 77, T_NS, 1))
    assert isinstance(answer, Deny)
    hearing.codec.members ^= 1
    (answer,) = hearing.hear(A, 9, 11, Request(WEB, 2, 78, T_NS, 1))
    assert isinstance(answer, Grant)
    hearing.hear(A, 9, 12, Release(WEB, 1, 0, 0))
    assert hearing.node.site.acceptor.lease(WEB, hearing.now_ns) is not None
    hearing.hear(A, 9, 13, Release(WEB, 2, 0, 0))
    assert hearing.node.site.acceptor.lease(WEB, hearing.now_ns) is None


def test_a_witness_s_request_is_not_answered() -> None:
    hearing = Hearing()
    hearing.believe(W, 9)
    assert hearing.hear(W, 9, 10, Request(WEB, 1, 77, T_NS, 1)) == []
    assert hearing.node.site.acceptor.lease(WEB, hearing.now_ns) is None


def test_a_witness_s_answers_are_its_beats_and_a_director_s_are_not() -> None:
    hearing = Hearing()
    detector = hearing.node.site.detector
    for sender, beats in ((W, True), (B, False)):
        hearing.believe(sender, 9)
        health = detector.peers[sender]
        before = health.beat
        nonce = hearing.node.reception.new_nonce(hearing.now_ns)
        hearing.now_ns += 7
        for link in (0, 1):  # the second is a copy
            hearing.hear(sender, 9, 10, Pong(nonce, 5), link=link)
            assert (health.links[link].round_trip_ns, health.links[link].up) == (7, beats)
        assert (health.beat > before) is beats
        before = health.beat
        hearing.hear(sender, 9, 11, Pong(nonce ^ 1, 5))
        assert health.beat == before


def test_what_is_no_datagram_of_this_cluster_is_counted_and_comes_to_nothing() -> None:
    hearing = Hearing()
    hearing.believe(B, 9)
    (body,) = encode_messages([Ping(7)])
    data = hearing.codec.encode(B, 9, 10, body)
    for noise, cause in (
        (b"", Rejection.TOO_SHORT),
        (data[:-1] + bytes([data[-1] ^ 1]), Rejection.TAG),
        (data[:3] + b"\x09" + data[4:], Rejection.KEY),
    ):
        assert hearing.node.reception.receive(0, noise, hearing.now_ns) is None
        assert hearing.node.reception.rejections[cause] == 1
    assert hearing.node.reception.unverified == 2
    assert hearing.hear(B, 9, 10, Ping(7)) == [Pong(7, 9)]
