"""What administrators ask for: checked at once, done step by step, answered in one sentence.

Theory of operation. A request is refused before anything is done if it cannot be done; so nothing is half done. One
that moves groups stays pending until the director that is to own each of them says so, with its gate open, or until
its time is over. Another director's group is moved by asking that director, in every heartbeat, until it has moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hawatch.cluster import handover
from hawatch.cluster.effects import AdminAction, AdminCommand, Answer, RememberGiveaway, Stopped
from hawatch.cluster.ownership import Ownership
from hawatch.cluster.parameters import in_units
from hawatch.cluster.site import Site
from hawatch.cluster.telling import OTHER_ADDRESSES
from hawatch.cluster.wire import UNABLE, GroupState, Handover, identifier
from hawatch.model import NS_PER_S

PENDING_MAX = 64
"""More requests at a time than administrators have hands."""


@dataclass(slots=True)
class Pending:
    """A request under way."""

    request: int
    targets: dict[str, int]
    """The director that is to own each group; 0: any other than this one."""
    asked_ns: int
    deadline_ns: int
    ask_owner: bool = False
    """The groups are another director's to hand over."""
    forced: bool = False
    """The groups are to be owned without a majority."""


@dataclass(slots=True)
class Requests:
    """The requests of one node's administrators."""

    site: Site
    groups: Mapping[str, Ownership]
    pending: list[Pending] = field(default_factory=list)
    stopped: bool = False

    def take(self, command: AdminCommand, now_ns: int) -> None:
        """Begin what was asked for, or refuse it."""
        handlers: dict[AdminAction, Callable[[AdminCommand, list[Ownership], int], str]] = {
            AdminAction.SWITCHOVER: self.switchover,
            AdminAction.GIVEAWAY: self.giveaway,
            AdminAction.RESUME: self.resume,
            AdminAction.TAKEOVER: self.takeover,
            AdminAction.STOP: self.stop,
        }
        if command.group and command.group not in self.groups:
            known = ", ".join(self.groups) or "none"
            self.answer(command.request, f'there is no group "{command.group}"; known groups: {known}', done=False)
        elif len(self.pending) >= PENDING_MAX:
            self.answer(command.request, f"{PENDING_MAX} requests are under way already", done=False)
        else:
            chosen = [group for name, group in self.groups.items() if command.group in ("", name)]
            refusal = handlers[command.action](command, chosen, now_ns)
            if refusal:
                self.answer(command.request, refusal, done=False)
        self.look(now_ns)

    def answer(self, request: int, text: str, took_ns: int = 0, *, done: bool) -> None:
        """Answer an administrator."""
        self.site.commands.append(Answer(request, done, text, took_ns))

    def wait_for(self, command: AdminCommand, targets: dict[str, int], now_ns: int, *, ask_owner: bool = False) -> None:
        """Answer when the groups have moved, or when it has taken too long."""
        deadline_ns = now_ns + 3 * self.site.parameters.lease_ns + NS_PER_S
        self.pending.append(Pending(command.request, targets, now_ns, deadline_ns, ask_owner))

    # --- the requests: each returns why it is refused, or "" ------------------------------------------------

    def switchover(self, command: AdminCommand, groups: list[Ownership], now_ns: int) -> str:
        """Move groups to a director: to this one from another, or from this one to the best or the named one."""
        site = self.site
        names = {site.name(node): node for node in (site.me, *site.directors)}
        if command.to and command.to not in names:
            return f'there is no director "{command.to}"; known directors: {", ".join(sorted(names))}'
        moves: dict[str, int] = {}
        for group in groups:
            target = names.get(command.to) or (
                handover.successor(group) if group.state is GroupState.OWNER else site.me
            )
            refusal, moving = self.movable(group, target, now_ns)
            if moving and not command.to:
                refusal = self.loses_addresses(group, target, now_ns)
            if refusal:
                return refusal
            if moving:
                moves[group.name] = target
        if not moves:
            return f"{command.to or site.name(site.me)} owns every group already"
        self.wait_for(command, moves, now_ns, ask_owner=True)
        for name, target in moves.items():
            group = self.groups[name]
            site.emit("switchover", f"{name} is switched over to {site.name(target)} by an administrator", name)
            if group.state is GroupState.OWNER:
                group.switch_over(target, now_ns)
            elif site.owner_claim(group.group, now_ns) is None:
                group.invite(now_ns, by_admin=True)
            else:
                site.send(Handover(group.group, target))
        return ""

    def movable(self, group: Ownership, target: int, now_ns: int) -> tuple[str, bool]:
        """Return why a group cannot be moved to a director, and whether it needs to be."""
        site, here = self.site, group.state is GroupState.OWNER
        claim = site.owner_claim(group.group, now_ns)
        owner = site.me if here else claim[0] if claim else 0
        if target == 0:
            return f"no other director could take {group.name} now: {self.others(group)}", False
        if owner == target:
            return "", False
        if target == site.me:
            hindrance = site.hindrance(now_ns)
            if hindrance:
                return hindrance, False
            if site.doubts_gate(now_ns):
                return "the kernel refused changes of the gate lately: see nftables", False
            if not site.proven(now_ns):
                return f"only {site.reachable(now_ns)} of {len(site.membership.members)} nodes answer this one", False
        elif not group.could_be_taken_by(target):
            return f"{site.name(target)} could not take {group.name} now: {self.state_of(target, group)}", False
        elif not owner:
            return f"nobody owns {group.name}: ask on {site.name(target)} itself", False
        return "", True

    def loses_addresses(self, group: Ownership, target: int, now_ns: int) -> str:
        """Return why nobody should move a group without naming the director that is to have it."""
        claim = self.site.owner_claim(group.group, now_ns)
        other = target if group.state is GroupState.OWNER else claim[0] if claim else 0
        if not other or not group.differs_at(other):
            return ""
        return f"{group.name}: {self.site.name(other)} has {OTHER_ADDRESSES}; --to {self.site.name(target)} moves it"

    def others(self, group: Ownership) -> str:
        """Say what is the matter with the other directors."""
        return (
            ", ".join(f"{self.site.name(node)} {self.state_of(node, group)}" for node in self.site.directors)
            or "there is none"
        )

    def state_of(self, node: int, group: Ownership) -> str:
        """Say what keeps one from taking a group."""
        site = self.site
        if not site.alive(node):
            return f"is {site.detector.peers[node].state}"
        if site.reports[node].paused:
            return "was given away"
        if site.reports[node].flags & UNABLE:
            return "has a name that another machine uses"
        if any(each.node == node for each in site.contenders()):
            if group.said_by(node) is None:
                return "does not know this group: reload it there"
            return "may own"
        return "has no majority of nodes that answer it"

    def giveaway(self, command: AdminCommand, _groups: list[Ownership], now_ns: int) -> str:
        """Give everything away and take nothing until a resume."""
        site = self.site
        owned = [group for group in self.groups.values() if group.state is GroupState.OWNER]
        for group in owned:
            if not group.takers():
                return f"nobody could take {group.name}: {self.others(group)}"
        if not site.paused:
            site.paused = True
            site.commands.append(RememberGiveaway(True))
            site.emit(
                "giveaway", "an administrator gave this director away: it takes nothing until `hawatch ctl resume`"
            )
        if owned:
            self.wait_for(command, {group.name: handover.successor(group) for group in owned}, now_ns)
        else:
            self.answer(command.request, f"{site.name(site.me)} owns nothing and takes nothing until resume", done=True)
        return ""

    def resume(self, command: AdminCommand, _groups: list[Ownership], _now_ns: int) -> str:
        """End a giveaway."""
        if not self.site.paused:
            return "nothing was given away"
        self.site.paused = False
        self.site.commands.append(RememberGiveaway(False))
        self.site.emit("resume", "an administrator ended the giveaway: this director may own groups again")
        self.answer(command.request, f"{self.site.name(self.site.me)} may own groups again", done=True)
        return ""

    def takeover(self, command: AdminCommand, groups: list[Ownership], now_ns: int) -> str:
        """Own groups without a majority."""
        site = self.site
        hindrance = site.hindrance(now_ns)
        if hindrance:
            return hindrance
        for group in groups:
            claim = site.owner_claim(group.group, now_ns)
            if group.state is GroupState.OWNER:
                return f"{site.name(site.me)} owns {group.name} already"
            if claim is not None:
                return f"{site.name(claim[0])} owns {group.name} and is heard: use switchover"
        for group in groups:
            group.forced = True
            group.not_before_ns = min(group.not_before_ns, now_ns)
        self.wait_for(command, {group.name: site.me for group in groups}, now_ns)
        self.pending[-1].forced = True
        return ""

    def stop(self, _command: AdminCommand, _groups: list[Ownership], _now_ns: int) -> str:
        """Give everything away and end."""
        self.site.stopping = True
        return ""

    # --- progress --------------------------------------------------------------------------------------------

    def beat(self, now_ns: int) -> None:
        """Ask the owners again, once a heartbeat."""
        for pending in self.pending:
            for name, target in pending.targets.items():
                group = self.groups.get(name)
                if pending.ask_owner and group is not None and group.state is not GroupState.OWNER:
                    self.site.send(Handover(group.group, target))
        self.look(now_ns)

    def look(self, now_ns: int) -> None:
        """Answer what is done, and what takes too long."""
        for pending in list(self.pending):
            gone = [name for name in pending.targets if name not in self.groups]
            if gone:
                words = f"the configuration does not name {', '.join(gone)} any more"
                self.pending.remove(pending)
                self.answer(pending.request, words, now_ns - pending.asked_ns, done=False)
                continue
            open_targets = {
                name: target for name, target in pending.targets.items() if not self.moved(name, target, now_ns)
            }
            took_ns = now_ns - pending.asked_ns
            if not open_targets:
                moved = ", ".join(f"{self.owner_name(name, now_ns)} owns {name}" for name in pending.targets)
                self.pending.remove(pending)
                self.answer(pending.request, moved, took_ns, done=True)
            elif now_ns >= pending.deadline_ns or (pending.forced and self.refused(pending)):
                reasons = "; ".join(f"{name}: {self.groups[name].reason}" for name in open_targets)
                self.pending.remove(pending)
                self.answer(pending.request, f"not done after {in_units(took_ns)}: {reasons}", took_ns, done=False)
        if self.site.stopping and not self.stopped and all(group.idle() for group in self.groups.values()):
            self.stopped = True
            self.site.commands.append(Stopped())

    def refused(self, pending: Pending) -> bool:
        """Return whether a forced takeover was given up, because somebody has the lease."""
        groups = [self.groups[name] for name in pending.targets]
        return any(group.state is GroupState.STANDBY and not group.forced for group in groups)

    def moved(self, name: str, target: int, now_ns: int) -> bool:
        """Return whether a group's new owner says that it answers."""
        group = self.groups[name]
        if group.state is GroupState.OWNER:
            return group.opened and target == self.site.me
        claim = self.site.owner_claim(group.group, now_ns)
        return claim is not None and target in (0, claim[0])

    def owner_name(self, name: str, now_ns: int) -> str:
        """Return the name of a group's owner, "nobody" when none is known."""
        group = self.groups[name]
        if group.state is GroupState.OWNER:
            return self.site.name(self.site.me)
        claim = self.site.owner_claim(identifier(name), now_ns)
        return self.site.name(claim[0]) if claim else "nobody"

    def deadlines_ns(self) -> list[int]:
        """Return when a request takes too long."""
        return [pending.deadline_ns for pending in self.pending]
