"""A node of the cluster, without I/O: what happened goes in, what is to be done comes out.

Theory of operation. `handle(event, now_ns)` returns commands (see `effects`). Of a datagram
that is fresh (`reception`) each message goes to its part: heartbeats to the detector, requests to the acceptor, answers
to the group that asked. Then every group looks whether anything is due. What is to be sent in one call is
packed into as few datagrams as fit, and each of them leaves on every link.

Once every heartbeat a director sends a beat: how it is, what it says of each group, and a fresh nonce to be answered.
One that owns nothing does so with its answer to the owner's beat, where that comes at about the time. After a change of
what it says it does so at once. A witness is the same node without groups: it answers.

When the configuration names other groups, those that went are let go of in good order first; then the gate covers
the new ones, and they are owned like any other. Nothing else of the node changes: its promises stay.

A node that finds that others believe a later boot of its name than its own was either started with a clock that went
back, which a new boot number heals if it owns nothing, or shares its name with another machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from hawatch.cluster import candidacy, rounds
from hawatch.cluster.acceptor import Acceptor, Denied, Granted
from hawatch.cluster.detector import Detector, LinkHealth, PeerHealth
from hawatch.cluster.effects import (
    AdminCommand,
    Arm,
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
    GroupEvent,
    GroupsChanged,
    InstallGroups,
    NodeEvent,
    Send,
    SetTimer,
    Tick,
)
from hawatch.cluster.keys import KeyRing
from hawatch.cluster.membership import FormerRun, GroupSettings, Membership
from hawatch.cluster.ownership import Ownership
from hawatch.cluster.quorum import Phase
from hawatch.cluster.reception import Reception
from hawatch.cluster.requests import Requests
from hawatch.cluster.rhythm import Rhythm
from hawatch.cluster.settling import Settling
from hawatch.cluster.site import BROADCAST, PeerClaim, PeerReport, Randomness, Site
from hawatch.cluster.telling import Telling
from hawatch.cluster.wire import (
    BY_ADMIN,
    PAUSED,
    READY,
    SEEN,
    UNABLE,
    UNSURE,
    Claim,
    Codec,
    Datagram,
    Deny,
    DenyReason,
    Grant,
    GroupState,
    Handover,
    Heartbeat,
    Message,
    Ping,
    Pong,
    Release,
    Request,
    encode_messages,
    identifier,
)
from hawatch.model import Severity

LATE_PART = 2
"""A beat that is late by this part of a heartbeat is told: the node itself is slow, nobody else."""


class Node:
    """One node; see the module's text.

    `boot` must be higher than at every former start of this node. `adopted` names the groups whose gate a former
    process of this node left open, with the slot in use; `pins` those that an administrator gave to this node, `forced`
    those that it owned without a majority: it goes on so only where the gate is open still. `silent` is False only
    where nothing can have been promised before: the first start of a site in a simulation. `former` is what the last
    `RememberRun` kept, None at the first start.
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
        pins: frozenset[str] = frozenset(),
        forced: frozenset[str] = frozenset(),
        silent: bool = True,
        former: FormerRun | None = None,
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
            members=membership.digest,
            directors=tuple(node for node, member in peers.items() if not member.votes_only),
            reports={node: PeerReport() for node in peers},
            paused=paused,
            pins=pins,
            forced=forced,
        )
        self.settling = Settling(self.site, former, now_ns, silent=silent)
        self.reception = Reception(Codec(membership.cluster, list(peers), keyring, self.site.members), self.site)
        # Witnesses first: who is told that a lease is released asks them for it at once.
        self.links = {node: peers[node].links for node in sorted(peers, key=lambda node: not peers[node].votes_only)}
        self.sequence = self.beats = 0
        self.rhythm = Rhythm(parameters.heartbeat_ns, now_ns)
        self.timer_ns = -1
        self.told: tuple[Claim, ...] = ()
        self.telling = Telling(self.site)
        self.reborn = False
        self.wanted_groups: tuple[GroupSettings, ...] | None = None
        """What the configuration names, while groups that it does not name any more are let go of."""
        self.numbers: dict[str, int] = {}
        """The last round of each group that was let go of: acceptors take nothing older of this boot."""
        self.groups: dict[str, Ownership] = {}
        self.by_identifier: dict[int, Ownership] = {}
        for settings in () if self.voter else membership.groups:
            self.add_group(settings, now_ns, adopted_slot=(adopted or {}).get(settings.name))
        self.requests = Requests(self.site, self.groups)

    # --- in and out ------------------------------------------------------------------------------------------

    def start(self, now_ns: int) -> list[Command]:
        """Return what is to be done first."""
        return self.handle(Tick(), now_ns)

    def handle(self, event: NodeEvent, now_ns: int) -> list[Command]:
        """Return what is to be done because of an event, in order."""
        match event:
            case Tick():
                pass  # what is due is looked for below, whatever woke this node
            case DatagramReceived(link=link, data=data):
                if not self.hear(link, data, now_ns):
                    return []
            case AdminCommand():
                self.requests.take(event, now_ns)
            case FitnessChanged(score=score, reason=reason, sure=sure, apart_ns=apart_ns):
                self.site.fitness, self.site.fitness_reason, self.site.sure = score, reason, sure
                self.site.apart_ns = apart_ns
            case GroupsChanged(groups=groups):
                self.change_groups(groups)
            case _ if event.group in self.groups:  # else of one that has been let go of
                self.handle_group(self.groups[event.group], event, now_ns)
        return self.go_on(now_ns)

    def go_on(self, now_ns: int) -> list[Command]:
        """Do what is due, whatever woke this node, and return all commands."""
        if self.rhythm.waits and not self.at_rest():
            self.rhythm.keep_own_time()
        if now_ns >= self.rhythm.next_ns:
            self.beat(now_ns)
        for each in self.groups.values():
            each.wake(now_ns)
        self.regroup(now_ns)
        self.requests.look(now_ns)
        return self.flush(now_ns)

    def handle_group(self, group: Ownership, event: GroupEvent, now_ns: int) -> None:
        """Take in what concerns one group."""
        match event:
            case GateArmed(number=number):
                group.armed(number, now_ns)
            case GateOpened():
                group.gate_opened()
            case GateClosed():
                group.closed(now_ns)
            case GateFailed(reason=reason):
                group.gate_failed(reason, now_ns)
            case GateLost():
                group.gate_lost(now_ns)
            case GatewayAnswer(number=number, answered=answered):
                self.gateway_answer(group, number, answered=answered, now_ns=now_ns)
            case ArpProbeAnswer(number=number, mac=mac):
                words = f"{mac} answers for the group's addresses, so its owner lives and only the links are cut"
                candidacy.take_evidence(group, candidacy.ADDRESSES, number, good=not mac, words=words, now_ns=now_ns)

    def flush(self, now_ns: int) -> list[Command]:
        """Pack what is to be sent, set the timer, and return all commands.

        What is to be sent waits for a gate that is being armed: the answer comes at once, and the request for the lease
        that follows goes into the same datagram.
        """
        site = self.site
        claims = self.claims()
        if claims != self.told and not self.voter:
            self.speak(now_ns)
        if not any(isinstance(each, Arm) for each in site.commands):
            self.pack(now_ns)
        deadlines = [self.rhythm.next_ns, *self.requests.deadlines_ns()]
        for group in self.groups.values():
            deadlines += group.deadlines_ns()
        timer_ns = min((each for each in deadlines if each > now_ns), default=self.rhythm.next_ns)
        if timer_ns != self.timer_ns:
            self.timer_ns = timer_ns
            site.commands.append(SetTimer(timer_ns))
        commands, site.commands = [*site.commands, *site.remember.values()], []
        site.remember.clear()
        return commands

    def pack(self, now_ns: int) -> None:
        """Make datagrams of what is to be sent: what is for one node and what is for all go to it together."""
        site = self.site
        outbox, site.outbox = site.outbox, {}
        self.reception.asks(outbox.get(BROADCAST, ()), now_ns)
        for_all: list[bytes] | None = None
        for node, links in self.links.items():
            if node in outbox:
                datagrams = self.seal(each for to in outbox if to in (node, BROADCAST) for each in outbox[to])
            else:
                datagrams = for_all = self.seal(outbox.get(BROADCAST, ())) if for_all is None else for_all
            site.commands += [Send(link, address, each) for each in datagrams for link, address in enumerate(links)]

    def seal(self, messages: Iterable[Message]) -> list[bytes]:
        """Return datagrams that hold the messages, with numbers that were not used before."""
        datagrams = []
        for body in encode_messages(messages):
            self.sequence += 1
            datagrams.append(self.reception.codec.encode(self.site.me, self.site.boot, self.sequence, body))
        return datagrams

    # --- time ------------------------------------------------------------------------------------------------

    def beat(self, now_ns: int) -> None:
        """Do what is due once a heartbeat."""
        heartbeat_ns = self.site.parameters.heartbeat_ns
        late_ns = self.rhythm.beat(now_ns)
        if late_ns >= heartbeat_ns // LATE_PART and self.beats:
            self.telling.lateness(late_ns, now_ns)
        if late_ns > heartbeat_ns and self.beats:
            # What this node did not hear while it did not run says nothing of the others.
            self.site.detector.paused(now_ns)
            self.telling.paused(now_ns)
        self.site.detector.check(now_ns)
        self.settling.look(now_ns)
        if not self.voter:
            self.telling.quorum(now_ns)
            self.telling.differences(self.groups.values(), now_ns)
            nonce = self.reception.new_nonce(now_ns)
        for group in self.groups.values():
            group.beat(now_ns)
        self.requests.beat(now_ns)
        if self.telling.changes():
            for group in self.groups.values():
                group.network_healed()
        if not self.voter:
            self.speak(now_ns, nonce=nonce)

    def at_rest(self) -> bool:
        """Return whether this director owns nothing and wants nothing."""
        return all(each.state in (GroupState.STANDBY, GroupState.RELEASED) for each in self.groups.values())

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
        flags |= 0 if site.unseen() else SEEN
        flags |= 0 if site.sure else UNSURE
        self.told = self.claims()
        if nonce is not None:
            site.send(Ping(nonce))
        site.send(Heartbeat(self.beats, site.fitness, flags))
        for claim in self.told:
            site.send(claim)

    def hear(self, link: int, data: bytes, now_ns: int) -> bool:
        """Take in a datagram; return False if nothing comes of it: a flood is to cost no more than that."""
        datagram = self.reception.receive(link, data, now_ns)
        if datagram is None:
            return now_ns >= self.timer_ns or bool(self.site.outbox or self.site.commands)
        self.take(datagram, link, now_ns)
        return True

    def take(self, datagram: Datagram, link: int, now_ns: int) -> None:
        """Hand each message of a fresh datagram to its part."""
        sender, report = datagram.sender, self.site.reports[datagram.sender]
        report.members = datagram.members
        for message in datagram.messages:
            self.reception.note_life(sender, link, message, now_ns)
            match message:
                case Heartbeat():
                    report.fitness, report.flags, report.beat_ns = message.fitness, message.flags, now_ns
                case Claim() if message.group in self.by_identifier and sender in self.site.directors:
                    report.claims[message.group] = PeerClaim(message.state, message.epoch, now_ns, message.addresses)
                case Ping():
                    self.answer_question(sender, message, now_ns)
                case Pong() if message.nonce in self.reception.nonces:
                    report.proven_ns = now_ns
                    if message.boot > self.site.boot:
                        self.outdated(message.boot, now_ns)
                case Request():
                    self.answer_request(datagram, message, now_ns)
                case Grant() | Deny() | Release() | Handover():
                    self.take_lease_message(sender, datagram.boot, message, now_ns)
                case _:
                    pass

    def answer_question(self, sender: int, ping: Ping, now_ns: int) -> None:
        """Prove that this node hears the sender, and ask it in turn."""
        self.site.send(Pong(ping.nonce, self.reception.boot_of(sender)), sender)
        if self.voter:
            self.reception.ask_back(sender, now_ns)
        elif sender == self.site.leader() and self.at_rest():
            self.rhythm.follow(now_ns)

    def answer_request(self, datagram: Datagram, request: Request, now_ns: int) -> None:
        """Decide on a request as an acceptor, and answer."""
        asker, order = datagram.sender, (datagram.boot, request.round)
        if asker not in self.site.directors:
            return
        if datagram.members != self.site.members:
            self.site.send(Deny(request.group, request.nonce, DenyReason.MEMBERS, 0, 0, 0), asker)
            return
        decision = self.site.acceptor.request(asker, order, request.group, request.lease_ns, request.epoch, now_ns)
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
                rounds.judge(group, round_, now_ns)
            return
        words = "the gateway does not answer: this director seems to be the one that is cut off"
        candidacy.take_evidence(group, candidacy.GATEWAY, number, good=answered, words=words, now_ns=now_ns)

    # --- the configuration -----------------------------------------------------------------------------------

    def add_group(self, settings: GroupSettings, now_ns: int, *, adopted_slot: int | None = None) -> None:
        """Share a group from now on."""
        group = Ownership(settings, self.site, now_ns, adopted_slot=adopted_slot)
        group.number = self.numbers.get(settings.name, 0)
        group.forced = adopted_slot is not None and settings.name in self.site.forced
        self.groups[settings.name] = self.by_identifier[group.group] = group

    def change_groups(self, groups: tuple[GroupSettings, ...]) -> None:
        """Begin to share other groups: those that went are let go of first."""
        self.wanted_groups = groups
        names = {settings.name for settings in groups}
        for group in self.groups.values():
            if group.name not in names:
                group.drop()

    def regroup(self, now_ns: int) -> None:
        """Forget the groups that have been let go of; when all have, share those that the configuration names."""
        if self.wanted_groups is None:
            return
        for group in [each for each in self.groups.values() if each.dropped and each.idle()]:
            self.numbers[group.name] = group.number
            for report in self.site.reports.values():
                report.claims.pop(group.group, None)  # nothing that is said of it from now on is heard
            del self.groups[group.name], self.by_identifier[group.group]
        if any(group.dropped for group in self.groups.values()):
            return
        groups, self.wanted_groups = self.wanted_groups, None
        self.membership = self.site.membership = replace(self.membership, groups=groups)
        self.site.acceptor.change((identifier(settings.name) for settings in groups), now_ns)
        if self.voter:
            return
        self.site.commands.append(InstallGroups())
        for settings in groups:
            known = self.groups.get(settings.name)
            if known is None:
                self.add_group(settings, now_ns)
            else:
                known.settings = settings
                known.addresses_changed(now_ns)
        self.groups = {settings.name: self.groups[settings.name] for settings in groups}
        self.requests.groups = self.groups

    # --- status ----------------------------------------------------------------------------------------------

    def use_keys(self, keyring: KeyRing) -> None:
        """Go on with other keys."""
        self.reception.codec.use(keyring)

    def owned(self) -> frozenset[str]:
        """Return the groups that this director owns."""
        return frozenset(name for name, group in self.groups.items() if group.state is GroupState.OWNER)
