"""What can be done from the page: the words, the request that carries it out, and what it will do, in sentences."""

from __future__ import annotations

from dataclasses import dataclass

from hawatch.control import protocol
from hawatch.control.view import ServerView, ServiceView, View
from hawatch.errors import UsageError

TEXT_MAX = 300

SERVER_VERBS: dict[str, tuple[type[protocol.ServerRequest], str]] = {
    "drain": (protocol.Drain, "Drain"),
    "undrain": (protocol.Undrain, "End drain"),
    "disable": (protocol.Disable, "Disable"),
    "enable": (protocol.Enable, "Enable"),
}
VERBS = (*SERVER_VERBS, "ack", "switchover", "giveaway", "resume")


@dataclass(frozen=True, slots=True)
class Deed:
    """One action, as a button names it."""

    verb: str
    service: str = ""
    server: str = ""
    group: str = ""
    to: str = ""

    @property
    def words(self) -> str:
        """The button's value."""
        return " ".join(word for word in (self.verb, self.service, self.server, self.group, self.to) if word)

    @property
    def command(self) -> str:
        """The same on a command line."""
        match self.verb:
            case "switchover":
                return f"hawatch ctl switchover --group {self.group} --to {self.to}"
            case "giveaway" | "resume":
                return f"hawatch ctl {self.verb}"
            case _:
                return f"hawatch ctl {self.verb} {self.service} {self.server}".rstrip()


def parse(words: str) -> Deed:
    """Return the action of a button's value; raise UsageError for what is none."""
    parts = words.split(" ")
    match parts:
        case [verb, service, server] if verb in SERVER_VERBS or verb == "ack":
            return Deed(verb, service, server)
        case ["ack", service]:
            return Deed("ack", service)
        case ["switchover", group, to]:
            return Deed("switchover", group=group, to=to)
        case ["giveaway" | "resume" as verb]:
            return Deed(verb)
        case _:
            raise UsageError("there is no such action")


def request_of(deed: Deed, user: str, text: str = "") -> protocol.Request:
    """Return the request that carries an action out."""
    match deed.verb:
        case "ack":
            return protocol.Ack(service=deed.service, server=deed.server, text=text[:TEXT_MAX], user=user)
        case "switchover":
            return protocol.Switchover(group=deed.group, to=deed.to, user=user)
        case "giveaway":
            return protocol.Giveaway(user=user)
        case "resume":
            return protocol.Resume(user=user)
        case verb:
            return SERVER_VERBS[verb][0](service=deed.service, server=deed.server, user=user)


def offered(service: str, server: ServerView) -> tuple[Deed, ...]:
    """Return what can be done with a server now."""
    if server.sorry:
        return ()
    verbs = {
        "up": ("drain", "disable"),
        "down": ("disable", "ack"),
        "draining": ("undrain", "disable"),
        "disabled": ("enable",),
        "unknown": ("drain", "disable"),
    }.get(server.state, ("drain", "disable"))
    return tuple(Deed(verb, service, server.name) for verb in verbs)


def label(deed: Deed) -> str:
    """Return what stands on the button."""
    match deed.verb:
        case "ack":
            return "Acknowledge"
        case "switchover":
            return f"Move to {deed.to}"
        case "giveaway":
            return "Give everything away"
        case "resume":
            return "Take part again"
        case verb:
            return SERVER_VERBS[verb][1]


def consequences(deed: Deed, view: View) -> list[str]:
    """Return what an action will do, in sentences; raise UsageError when its subject is not there."""
    if deed.verb == "ack":
        return _ack(deed, view)
    if deed.verb in SERVER_VERBS:
        service = view.service(deed.service)
        server = next((each for each in service.real if each.name == deed.server), None) if service else None
        if service is None or server is None:
            raise UsageError(f"there is no server {deed.server} in a service {deed.service}")
        return _server(deed.verb, service, server)
    return _ownership(deed, view)


def _server(verb: str, service: ServiceView, server: ServerView) -> list[str]:
    name, held = server.name, server.active
    going = "" if held is None else f"; its {held} connection{'s' if held != 1 else ''}"
    match verb:
        case "drain":
            first = f"{name} gets weight 0 in service {service.name}: no new connections"
            first += f"{going} go on." if going else ", those that it has go on."
        case "disable":
            first = f"{name} is taken out of service {service.name} now, and stays out whatever its probes say"
            first += f"{going} break." if going else ": the connections that it has break."
        case "undrain":
            first = f"{name} gets new connections of service {service.name} again, as soon as its probes agree."
        case _:
            first = f"{name} comes back into service {service.name} when its probes find it well."
    stays = "It stays so, over restarts too, until somebody ends it."
    return [first, *_left(service, server), stays] if verb in ("drain", "disable") else [first]


def _left(service: ServiceView, server: ServerView) -> list[str]:
    """Return who takes the load when a server is out."""
    others = [each for each in service.real if each.state == "up" and each.name != server.name]
    count = len(service.real)
    if others:
        return [f"{len(others)} of its {count} servers take{'s' if len(others) == 1 else ''} the load then."]
    sorry = next((each for each in service.servers if each.sorry), None)
    if sorry:
        return [f"No other server is up: clients are sent to the sorry server {sorry.name}."]
    return ["No other server is up: nobody is left to serve its clients."]


def _ack(deed: Deed, view: View) -> list[str]:
    service = view.service(deed.service)
    if service is None and deed.service != protocol.ALL:
        raise UsageError(f"there is no service {deed.service}")
    what = f"{deed.server} of service {deed.service}" if deed.server else f"service {deed.service} and its servers"
    return [
        f"Whoever watches sees that you see to {what}: no more is told of this failure until it is over.",
        "Nothing is changed in IPVS.",
    ]


def _ownership(deed: Deed, view: View) -> list[str]:
    owned = [group.name for group in view.groups if group.owner == view.node]
    match deed.verb:
        case "switchover":
            group = next((each for each in view.groups if each.name == deed.group), None)
            if group is None:
                raise UsageError(f"there is no group {deed.group}")
            target = next((each for each in view.directors if each.name == deed.to), None)
            if target is None and deed.to != view.node:
                raise UsageError(f"there is no director {deed.to}")
            addresses = ", ".join(group.addresses) or "no address"
            found = [f"Group {group.name} ({addresses}) moves from {group.owner or 'nobody'} to {deed.to} now."]
            if target is not None and target.state != "alive":
                found.append(f"{deed.to} is {target.state}: it will not be moved there while it is.")
            return [*found, "Connections go on where they are synchronised, else they break."]
        case "giveaway":
            what = f"{view.node} gives {', '.join(owned)} away" if owned else f"{view.node} owns nothing now"
            alive = [each.name for each in view.directors if each.state == "alive"]
            return [
                f"{what} and takes nothing, over restarts too, until somebody says resume.",
                f"{', '.join(alive)} can own it." if alive else "No other director is alive: it will be refused.",
            ]
        case _:
            return [f"{view.node} takes part again: it may own groups, and takes back those that prefer it."]
