"""From bytes to messages that may be believed: what a node hears, and whom it asks to prove itself.

Theory of operation. A datagram is decoded (`wire`), and its freshness is judged (`sessions`). One that is fresh goes
on to the node. A copy counts as a sign of life of its link, no more. A boot that has not proved yet that its
datagrams are new is answered, and asked; one that is older than the believed one is told so now and then, so that a
node whose clock went back learns of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hawatch.cluster.sessions import Session, Standing
from hawatch.cluster.site import PeerReport, Site
from hawatch.cluster.wire import Codec, Datagram, Heartbeat, Message, Ping, Pong, Rejection

NONCES_MAX = 8
"""Questions that may still be answered: more than two heartbeats' worth."""
QUESTIONS_PER_HEARTBEAT = 4
"""A node whose boot is not believed yet is asked so often at most: each answer of its own must not make a question."""
REJECTIONS = {
    Standing.DUPLICATE: Rejection.DUPLICATE,
    Standing.STALE: Rejection.STALE,
    Standing.OLD_BOOT: Rejection.OLD_BOOT,
    Standing.UNVERIFIED: Rejection.UNVERIFIED,
}


class Reception:
    """The hearing of one node."""

    def __init__(self, codec: Codec, site: Site) -> None:
        self.codec = codec
        self.site = site
        self.sessions = {node: Session() for node in site.reports}
        self.rejections: Counter[Rejection] = Counter()
        self.unverified = 0
        """Datagrams that were made with no key of this node's: not even copies of one that was."""
        self.questions = 0
        self.asked_ns: dict[int, int] = {}
        """When each of the last questions was sent."""
        self.nonces: dict[int, int] = {}
        """The last questions sent, with their number."""
        self.questions_to: dict[int, tuple[int, int]] = {}
        """The last question put to each node whose boot is not believed yet, and when."""

    def receive(self, link: int, data: bytes, now_ns: int) -> Datagram | None:
        """Take in a datagram, whatever it is; return it if its messages count."""
        datagram = self.codec.decode(data)
        if isinstance(datagram, Rejection):
            self.rejections[datagram] += 1
            self.unverified += datagram in (Rejection.KEY, Rejection.TAG)
            return None
        session = self.sessions[datagram.sender]
        standing = session.admit(datagram.boot, datagram.sequence)
        if standing is Standing.FRESH:
            return datagram
        self.rejections[REJECTIONS[standing]] += 1
        if standing is Standing.UNVERIFIED:
            return datagram if self.meet(datagram, now_ns) else None
        if standing is Standing.OLD_BOOT:
            self.tell_boot(datagram, now_ns)
        elif standing is Standing.DUPLICATE and datagram.boot == session.boot:
            for message in datagram.messages:
                self.note_life(datagram.sender, link, message, now_ns)
        return None

    def boot_of(self, sender: int) -> int:
        """Return the boot of a sender that is believed, 0 for none."""
        return self.sessions[sender].boot

    # --- boots -----------------------------------------------------------------------------------------------

    def meet(self, datagram: Datagram, now_ns: int) -> bool:
        """Return whether a new boot has just proved that its datagrams are new; else answer it, and ask."""
        sender, session = datagram.sender, self.sessions[datagram.sender]
        answers = [each for each in datagram.messages if isinstance(each, Pong) and self.answers_us(sender, each.nonce)]
        if answers and session.verify(datagram.boot, datagram.sequence):
            self.site.detector.restarted(sender)
            self.site.reports[sender] = PeerReport()
            return True
        for message in datagram.messages:
            if isinstance(message, Ping):
                self.site.send(Pong(message.nonce, session.boot), sender)
        _, asked_ns = self.questions_to.get(sender, (0, -1))
        if asked_ns < 0 or now_ns - asked_ns >= self.site.parameters.heartbeat_ns // QUESTIONS_PER_HEARTBEAT:
            nonce = self.site.random.getrandbits(64)
            self.questions_to[sender] = nonce, now_ns
            self.site.send(Ping(nonce), sender)
        return False

    def answers_us(self, sender: int, nonce: int) -> bool:
        """Return whether a nonce is of a question that this node asked lately."""
        return nonce in self.nonces or nonce == self.questions_to.get(sender, (None, 0))[0]

    def tell_boot(self, datagram: Datagram, now_ns: int) -> None:
        """Answer an older boot than the believed one now and then: a node whose clock went back learns of it."""
        report = self.site.reports[datagram.sender]
        if now_ns - report.told_boot_ns < self.site.parameters.heartbeat_ns:
            return
        report.told_boot_ns = now_ns
        for message in datagram.messages:
            if isinstance(message, Ping):
                self.site.send(Pong(message.nonce, self.boot_of(datagram.sender)), datagram.sender)

    # --- questions -------------------------------------------------------------------------------------------

    def new_nonce(self, now_ns: int) -> int:
        """Make a question; the oldest one is forgotten."""
        nonce = self.site.random.getrandbits(64)
        self.questions += 1
        self.nonces[nonce] = self.questions
        self.asked_ns[nonce] = now_ns
        if len(self.nonces) > NONCES_MAX:
            oldest = next(iter(self.nonces))
            del self.nonces[oldest], self.asked_ns[oldest]
        return nonce

    def asks(self, messages: Iterable[Message], now_ns: int) -> None:
        """Note when questions leave: from then on an answer is waited for."""
        for message in messages:
            if isinstance(message, Ping) and message.nonce in self.asked_ns:
                self.asked_ns[message.nonce] = now_ns

    def ask_back(self, sender: int, now_ns: int) -> None:
        """Let a witness ask once a lease: from the answer it learns that a later boot than its own is believed."""
        report = self.site.reports[sender]
        if now_ns - report.asked_ns >= self.site.parameters.lease_ns:
            report.asked_ns = now_ns
            self.site.send(Ping(self.new_nonce(now_ns)), sender)

    def note_life(self, sender: int, link: int, message: Message, now_ns: int) -> None:
        """Account a sign of life to its link: a beat, or a witness's answer; and how long an answer took."""
        if isinstance(message, Pong) and message.nonce in self.asked_ns:
            self.site.detector.answered(sender, link, now_ns - self.asked_ns[message.nonce])
        if isinstance(message, Heartbeat):
            self.site.detector.heard(sender, link, message.beat, now_ns)
        elif isinstance(message, Pong) and sender not in self.site.directors and message.nonce in self.nonces:
            self.site.detector.heard(sender, link, self.nonces[message.nonce], now_ns)
