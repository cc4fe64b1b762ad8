"""A node of the cluster, without I/O: what happened goes in, what is to be done comes out.

Theory of operation. `handle(event, now_ns)` returns commands (see `effects`). A datagram is decoded, its freshness is
judged (`sessions`), and each of its messages goes to its part: heartbeats to the detector, requests to the acceptor,
answers to the group that asked. Then every group looks whether anything is due. What is to be sent in one call is
packed into as few datagrams as fit, and each of them leaves on every link.

Once every heartbeat a director sends a beat: how it is, what it says of each group, and a fresh nonce to be answered.
After a change of what it says it does so at once. A witness is the same node without groups: it answers.

A node that finds that others believe a later boot of its name than its own was either started with a clock that went
back, which a new boot number heals if it owns nothing, or shares its name with another machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from hawatch.cluster import candidacy
from hawatch.cluster.acceptor import Acceptor, Denied, Granted
from hawatch.cluster.detector import Detector, LinkChange, LinkHealth, PeerChange, PeerHealth, PeerState
from hawatch.cluster.effects import (
    AdminCommand,
    ArpProbeAnswer,
    Command,
    DatagramReceived,
    FitnessChanged,
    GateArmed,
    GateClosed,
    GateFailed,
    GateLost,
    GateOpened,
    GatewayAnswer,
    LinkChanged,
    NodeEvent,
    Send,
    SetTimer,
    Tick,
)
from hawatch.cluster.keys import KeyRing
from hawatch.cluster.membership import Membership
from hawatch.cluster.ownership import Ownership
from hawatch.cluster.parameters import in_units
from hawatch.cluster.quorum import Phase
from hawatch.cluster.requests import Requests
from hawatch.cluster.sessions import Session, Standing
from hawatch.cluster.site import BROADCAST, PeerClaim, PeerReport, Randomness, Site
from hawatch.cluster.wire import (
    BY_ADMIN,
    PAUSED,
    READY,
    UNABLE,
    Claim,
    Codec,
    Datagram,
    Deny,
    Grant,
    GroupState,
    Handover,
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
from hawatch.model import NS_PER_S, Severity

NONCES_MAX = 8
"""Questions that may still be answered: more than two heartbeats' worth."""
QUESTIONS_PER_HEARTBEAT = 4
"""A node whose boot is not believed yet is asked so often at most: each answer of its own must not make a question."""
TELL_LATENESS_NS = 10 * NS_PER_S
"""The own lateness is told at most so often."""
REJECTIONS = {
    Standing.DUPLICATE: Rejection.DUPLICATE,
    Standing.STALE: Rejection.STALE,
    Standing.OLD_BOOT: Rejection.OLD_BOOT,
    Standing.UNVERIFIED: Rejection.UNVERIFIED,
}


class Node:
    """One node; see the module's text.

    `boot` must be higher than at every former start of this node. `adopted` names the groups whose gate a former
    process of this node left open, with the slot in use. `silent` is False only where nothing can have been promised
    before: the first start of a site in a simulation.
    """

    def __init__(
        self,
        membership: Membership,
        keyring: KeyRing,
        *,
        boot: int,
        random: Randomness,
        now_ns: int,
        adopted: Mapping[str, int] | None = None,
        paused: bool = False,
        silent: bool = True,
    ) -> None:
        assert boot > 0
        self.membership = membership
        parameters = membership.parameters
        peers = {identifier(member.name): member for member in membership.peers}
        health = {
            node: PeerHealth(member.name, [LinkHealth(address) for address in member.links], now_ns)
            for node, member in peers.items()
        }
        me = identifier(membership.node)
        self.voter = membership.me.votes_only
        self.site = Site(
            membership=membership,
            parameters=parameters,
            random=random,
            acceptor=Acceptor(parameters, [identifier(each.name) for each in membership.groups], now_ns, silent=silent),
            detector=Detector(parameters, health),
            me=me,
            boot=boot,
            names={me: membership.node, **{node: member.name for node, member in peers.items()}},
            directors=tuple(node for node, member in peers.items() if not member.votes_only),
            reports={node: PeerReport() for node in peers},
            paused=paused,
        )
        self.codec = Codec(membership.cluster, list(peers), keyring)
        self.sessions = {node: Session() for node in peers}
        self.links = {node: member.links for node, member in peers.items()}
        self.rejections: Counter[Rejection] = Counter()
        self.sequence = self.beats = self.questions = 0
        self.nonces: dict[int, int] = {}
        """The last questions sent, with their number."""
        self.questions_to: dict[int, tuple[int, int]] = {}
        """The last question put to each node whose boot is not believed yet, and when."""
        self.next_beat_ns = now_ns
        self.timer_ns = -1
        self.told: tuple[Claim, ...] = ()
        self.quorate: bool | None = None
        self.told_late_ns = -TELL_LATENESS_NS
        self.reborn = False
        adopted = adopted or {}
        self.groups: dict[str, Ownership] = {}
        if not self.voter:
            for settings in membership.groups:
                self.groups[settings.name] = Ownership(
                    settings, self.site, now_ns, adopted_slot=adopted.get(settings.name)
                )
        self.by_identifier = {group.group: group for group in self.groups.values()}
        self.requests = Requests(self.site, self.groups)

    # --- in and out ------------------------------------------------------------------------------------------

    def start(self, now_ns: int) -> list[Command]:
        """Return what is to be done first."""
        return self.handle(Tick(), now_ns)

    def handle(self, event: NodeEvent, now_ns: int) -> list[Command]:  # noqa: C901 - one case an event
        """Return what is to be done because of an event, in order."""
        match event:
            case Tick():
                pass  # what is due is looked for below, whatever woke this node
            case DatagramReceived(link=link, data=data):
                self.receive(link, data, now_ns)
            case GateArmed(group=group, number=number):
                self.groups[group].armed(number, now_ns)
            case GateOpened(group=group):
                self.groups[group].gate_opened()
            case GateClosed(group=group):
                self.groups[group].closed(now_ns)
            case GateFailed(group=group, reason=reason):
                self.groups[group].gate_failed(reason, now_ns)
            case GateLost(group=group):
                self.groups[group].gate_lost(now_ns)
            case AdminCommand():
                self.requests.take(event, now_ns)
            case FitnessChanged(score=score, reason=reason):
                self.site.fitness, self.site.fitness_reason = score, reason
            case LinkChanged(link=link, up=up):
                self.own_link(link, up=up)
            case GatewayAnswer(group=group, number=number, answered=answered):
                self.gateway_answer(self.groups[group], number, answered=answered, now_ns=now_ns)
            case ArpProbeAnswer(group=group, number=number, mac=mac):
                words = f"{mac} answers for the group's addresses, so its owner lives and only the links are cut"
                candidacy.take_evidence(
                    self.groups[group], candidacy.ADDRESSES, number, good=not mac, words=words, now_ns=now_ns
                )
        if now_ns >= self.next_beat_ns:
            self.beat(now_ns)
        for each in self.groups.values():
            each.wake(now_ns)
        self.requests.look(now_ns)
        return self.flush(now_ns)

    def flush(self, now_ns: int) -> list[Command]:
        """Pack what is to be sent, set the timer, and return all commands."""
        site = self.site
        claims = self.claims()
        if claims != self.told and not self.voter:
            self.speak(now_ns)
        outbox, site.outbox = site.outbox, {}
        for to, messages in outbox.items():
            for body in encode_messages(messages):
                self.sequence += 1
                data = self.codec.encode(site.me, site.boot, self.sequence, body)
                for node in self.links if to == BROADCAST else (to,):
                    site.commands += [Send(link, address, data) for link, address in enumerate(self.links[node])]
        deadlines = [self.next_beat_ns, *self.requests.deadlines_ns()]
        for group in self.groups.values():
            deadlines += group.deadlines_ns()
        timer_ns = min((each for each in deadlines if each > now_ns), default=self.next_beat_ns)
        if timer_ns != self.timer_ns:
            self.timer_ns = timer_ns
            site.commands.append(SetTimer(timer_ns))
        commands, site.commands = site.commands, []
        return commands

    # --- time ------------------------------------------------------------------------------------------------

    def beat(self, now_ns: int) -> None:
        """Do what is due once a heartbeat."""
        heartbeat_ns = self.site.parameters.heartbeat_ns
        late_ns = now_ns - self.next_beat_ns
        if late_ns > heartbeat_ns and self.beats:
            self.was_paused(late_ns, now_ns)
        self.next_beat_ns = max(self.next_beat_ns + heartbeat_ns, now_ns + heartbeat_ns // 2)
        self.site.detector.check(now_ns)
        if not self.voter:
            self.judge_quorum(now_ns)
            self.new_nonce()
        for group in self.groups.values():
            group.beat(now_ns)
        self.requests.beat(now_ns)
        self.tell_changes()
        if not self.voter:
            self.speak(now_ns, nonce=next(reversed(self.nonces)))

    def was_paused(self, late_ns: int, now_ns: int) -> None:
        """This process did not run for a while: what it did not hear meanwhile says nothing of the others."""
        self.site.detector.paused(now_ns)
        if now_ns - self.told_late_ns >= TELL_LATENESS_NS:
            self.told_late_ns = now_ns
            reason = f"this director itself was {in_units(late_ns)} late: it was stopped, or its processors are busy"
            self.site.emit("lease_late", reason, severity=Severity.WARNING)

    def judge_quorum(self, now_ns: int) -> None:
        """Tell when a majority stops answering, and when it answers again."""
        site = self.site
        since_ns = now_ns - site.parameters.lease_ns
        answering = 1 + sum(0 <= since_ns <= report.proven_ns for report in site.reports.values())
        count, majority = len(self.membership.members), self.membership.majority
        quorate = answering >= majority
        if quorate and self.quorate is False:
            site.emit("quorum_regained", f"{answering} of {count} nodes answer again", severity=Severity.INFO)
        elif not quorate and self.quorate:
            reason = f"only {answering} of {count} nodes answer, {majority} are needed to own anything"
            site.emit("quorum_lost", reason, severity=Severity.CRITICAL)
        self.quorate = quorate if quorate or self.quorate is not None else None

    def tell_changes(self) -> None:
        """Publish what the detector saw."""
        site = self.site
        for change in site.detector.take_changes():
            severity = Severity.INFO
            match change:
                case PeerChange(peer=peer, state=state, reason=reason):
                    kind = "director" if identifier(peer) in site.directors else "witness"
                    dead = state is PeerState.DEAD
                    name = f"{kind}_dead" if dead else f"{kind}_alive"
                    severity = Severity.CRITICAL if dead else severity
                case LinkChange(up=up, reason=reason):
                    name = "link_up" if up else "link_down"
                    severity = severity if up else Severity.WARNING
            site.emit(name, reason, severity=severity)

    def own_link(self, link: int, *, up: bool) -> None:
        """Publish that an interface of this node changed."""
        address = self.membership.me.links[link]
        if up:
            self.site.emit("link_up", f"the interface of this node's link {address} is up")
        else:
            reason = f"the interface of this node's link {address} is down: see its cable and its switch"
            self.site.emit("link_down", reason, severity=Severity.WARNING)

    # --- speaking --------------------------------------------------------------------------------------------

    def claims(self) -> tuple[Claim, ...]:
        """Return what this director says of its groups."""
        return tuple(group.claim() for group in self.groups.values())

    def speak(self, now_ns: int, *, nonce: int | None = None) -> None:
        """Put a beat into the outbox, with a question if a nonce is given."""
        site = self.site
        self.beats += 1
        flags = PAUSED if site.paused or site.stopping else 0
        flags |= READY if site.proven(now_ns) and not site.doubts_gate(now_ns) else 0
        flags |= UNABLE if now_ns < site.clash_until_ns else 0
        self.told = self.claims()
        if nonce is not None:
            site.send(Ping(nonce))
        site.send(Heartbeat(self.beats, site.fitness, flags))
        for claim in self.told:
            site.send(claim)

    def new_nonce(self) -> int:
        """Make a question; the oldest one is forgotten."""
        nonce = self.site.random.getrandbits(64)
        self.questions += 1
        self.nonces[nonce] = self.questions
        if len(self.nonces) > NONCES_MAX:
            del self.nonces[next(iter(self.nonces))]
        return nonce

    # --- hearing ---------------------------------------------------------------------------------------------

    def receive(self, link: int, data: bytes, now_ns: int) -> None:
        """Take in a datagram, whatever it is."""
        datagram = self.codec.decode(data)
        if isinstance(datagram, Rejection):
            self.rejections[datagram] += 1
            return
        session = self.sessions[datagram.sender]
        standing = session.admit(datagram.boot, datagram.sequence)
        if standing is Standing.FRESH:
            self.take(datagram, link, now_ns)
            return
        self.rejections[REJECTIONS[standing]] += 1
        if standing is Standing.UNVERIFIED:
            self.meet(datagram, link, now_ns)
        elif standing is Standing.OLD_BOOT:
            self.tell_boot(datagram, now_ns)
        elif standing is Standing.DUPLICATE and datagram.boot == session.boot:
            for message in datagram.messages:
                self.note_life(datagram.sender, link, message, now_ns)

    def meet(self, datagram: Datagram, link: int, now_ns: int) -> None:
        """Talk with a boot that has not proved yet that its datagrams are new: answer, and ask."""
        sender, session = datagram.sender, self.sessions[datagram.sender]
        if any(
            isinstance(message, Pong) and self.answers_us(sender, message.nonce) for message in datagram.messages
        ) and (session.verify(datagram.boot, datagram.sequence)):
            self.site.detector.restarted(sender)
            self.site.reports[sender] = PeerReport()
            self.take(datagram, link, now_ns)
            return
        for message in datagram.messages:
            if isinstance(message, Ping):
                self.site.send(Pong(message.nonce, session.boot), sender)
        _, asked_ns = self.questions_to.get(sender, (0, -1))
        if asked_ns < 0 or now_ns - asked_ns >= self.site.parameters.heartbeat_ns // QUESTIONS_PER_HEARTBEAT:
            nonce = self.site.random.getrandbits(64)
            self.questions_to[sender] = nonce, now_ns
            self.site.send(Ping(nonce), sender)

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
                self.site.send(Pong(message.nonce, self.sessions[datagram.sender].boot), datagram.sender)

    def note_life(self, sender: int, link: int, message: Message, now_ns: int) -> None:
        """Account a sign of life to its link: a beat, or a witness's answer."""
        if isinstance(message, Heartbeat):
            self.site.detector.heard(sender, link, message.beat, now_ns)
        elif isinstance(message, Pong) and sender not in self.site.directors and message.nonce in self.nonces:
            self.site.detector.heard(sender, link, self.nonces[message.nonce], now_ns)

    def take(self, datagram: Datagram, link: int, now_ns: int) -> None:
        """Hand each message of a fresh datagram to its part."""
        sender, report = datagram.sender, self.site.reports[datagram.sender]
        for message in datagram.messages:
            self.note_life(sender, link, message, now_ns)
            match message:
                case Heartbeat():
                    report.fitness, report.flags = message.fitness, message.flags
                case Claim() if message.group in self.by_identifier and sender in self.site.directors:
                    report.claims[message.group] = PeerClaim(message.state, message.epoch, now_ns)
                case Ping():
                    self.site.send(Pong(message.nonce, self.sessions[sender].boot), sender)
                    if self.voter:
                        self.ask_back(sender, report, now_ns)
                case Pong() if message.nonce in self.nonces:
                    report.proven_ns = now_ns
                    if message.boot > self.site.boot:
                        self.outdated(message.boot, now_ns)
                case Request():
                    self.answer_request(sender, datagram.boot, message, now_ns)
                case Grant() | Deny() | Release() | Handover():
                    self.take_lease_message(sender, datagram.boot, message, now_ns)
                case _:
                    pass

    def ask_back(self, sender: int, report: PeerReport, now_ns: int) -> None:
        """Let a witness ask once a lease: from the answer it learns that a later boot than its own is believed."""
        if now_ns - report.asked_ns >= self.site.parameters.lease_ns:
            report.asked_ns = now_ns
            self.site.send(Ping(self.new_nonce()), sender)

    def answer_request(self, asker: int, boot: int, request: Request, now_ns: int) -> None:
        """Decide on a request as an acceptor, and answer."""
        if asker not in self.site.directors:
            return
        decision = self.site.acceptor.request(
            asker, (boot, request.round), request.group, request.lease_ns, request.epoch, now_ns
        )
        match decision:
            case Granted(epoch=epoch):
                self.site.send(Grant(request.group, request.nonce, epoch), asker)
            case Denied(reason=reason, holder=holder, remaining_ns=remaining_ns, epoch=epoch):
                self.site.send(Deny(request.group, request.nonce, reason, holder, remaining_ns, epoch), asker)

    def take_lease_message(
        self, sender: int, boot: int, message: Grant | Deny | Release | Handover, now_ns: int
    ) -> None:
        """Take in an answer, a release, or another director's administrator's wish."""
        if isinstance(message, Release):
            self.site.acceptor.release(sender, (boot, message.round), message.group)
        group = self.by_identifier.get(message.group)
        if group is None:
            return
        match message:
            case Grant():
                group.granted(sender, message, now_ns)
            case Deny():
                group.denied(sender, message, now_ns)
            case Release():
                claim = self.site.reports[sender].claims.get(message.group)
                if claim is not None and claim.state == GroupState.OWNER:
                    self.site.reports[sender].claims[message.group] = claim._replace(state=GroupState.CLOSING)
                group.released(sender, message.successor, now_ns, by_admin=bool(message.flags & BY_ADMIN))
            case Handover():
                group.asked_to_hand_over(sender, message.successor, now_ns)

    def outdated(self, boot: int, now_ns: int) -> None:
        """Others believe a later boot of this node's name than this one."""
        site = self.site
        owning = any(not group.idle() for group in self.groups.values())
        if not self.reborn and not owning:
            self.reborn = True
            site.boot, self.sequence = boot + 1, 0
            return
        if now_ns >= site.clash_until_ns:
            reason = f"another machine uses the name {self.membership.node}: this one owns nothing until that ends"
            site.emit("name_conflict", reason, severity=Severity.CRITICAL)
        site.clash_until_ns = now_ns + 2 * site.parameters.lease_ns

    def gateway_answer(self, group: Ownership, number: int, *, answered: bool, now_ns: int) -> None:
        """Count a gateway's answer: for an owner's round, or as evidence for a candidate."""
        round_ = group.round
        if group.state is GroupState.OWNER and round_ is not None and round_.number == number:
            round_.evidence = round_.evidence or answered
            if round_.phase is Phase.ASKING:
                group.judge(round_, now_ns)
            return
        words = "the gateway does not answer: this director seems to be the one that is cut off"
        candidacy.take_evidence(group, candidacy.GATEWAY, number, good=answered, words=words, now_ns=now_ns)

    # --- status ----------------------------------------------------------------------------------------------

    def use_keys(self, keyring: KeyRing) -> None:
        """Go on with other keys."""
        self.codec.use(keyring)

    def owned(self) -> frozenset[str]:
        """Return the groups that this director owns."""
        return frozenset(name for name, group in self.groups.items() if group.state is GroupState.OWNER)
