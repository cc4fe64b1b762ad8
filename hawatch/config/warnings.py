"""What is acceptable but worth knowing: `hawatch check` prints it, the agent logs it at start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hawatch.config.problems import Finding, nearest
from hawatch.config.rules_cluster import nodes_with_paths
from hawatch.config.rules_console import beyond_loopback
from hawatch.config.rules_group import vip_owners
from hawatch.config.schema import Config
from hawatch.event_names import EVENT_NAMES

UNWEIGHTED = frozenset({"rr", "lc", "dh"})
"""Schedulers that look at no weight but 0."""


def nothing_to_do(config: Config) -> Iterator[Finding]:
    """A file with nothing in it, or with everything commented out."""
    if not config.service and not config.group:
        yield Finding(("service",), "no service and no group: an agent has nothing to do", "[[service]] or [[group]]")


def weak_quorum(config: Config) -> Iterator[Finding]:
    """Without a witness the promise is weaker."""
    if not config.leased or config.cluster.quorum == "witness":
        return
    how = {
        "gateway": "two directors that each reach a gateway, but not each other, may own one VIP",
        "none": "two directors that do not hear each other both own every VIP",
    }[config.cluster.quorum]
    yield Finding(("cluster", "quorum"), f'quorum = "{config.cluster.quorum}" is best effort: {how}', "a witness")
    if config.witness:
        yield Finding(("witness",), f'quorum = "{config.cluster.quorum}" asks no witness', 'quorum = "witness"')


def one_link(config: Config) -> Iterator[Finding]:
    """A single heartbeat path is a single point of failure."""
    for path, node in nodes_with_paths(config):
        if config.leased and path[0] == "director" and len(node.links) == 1:
            yield Finding((*path, "links"), "one heartbeat path: a cut of it counts as a dead director", "two links")


def unused_profile(config: Config) -> Iterator[Finding]:
    """A lease of one's own takes the profile's place."""
    if config.cluster.lease is not None and "profile" in config.cluster.model_fields_set:
        yield Finding(("cluster", "profile"), "not used: lease and heartbeat take its place")


def unprobed(config: Config) -> Iterator[Finding]:
    """Without a probe nobody notices a dead server."""
    for number, service in enumerate(config.service):
        if not service.probe:
            yield Finding(("service", number), "no probe: its servers always count as up", "probe = { type = ... }")
        if not service.server:
            yield Finding(("service", number), "no server: its clients are refused", "[[service.server]]")
        elif all(server.weight == 0 for server in service.server):
            yield Finding(("service", number), "every server has weight 0: its clients are refused")


def ungrouped(config: Config) -> Iterator[Finding]:
    """A service on a VIP that does not name the VIP's group."""
    owners = vip_owners(config)
    for number, service in enumerate(config.service):
        if not service.group and service.address in owners:
            name = owners[service.address].name
            yield Finding(("service", number), f'its address is a VIP of group "{name}", which it does not name',
                          f'group = "{name}"')  # fmt: skip


def unused_keys(config: Config) -> Iterator[Finding]:
    """Keys without an effect."""
    for number, service in enumerate(config.service):
        here = ("service", number)
        if service.sorry_server and service.when_all_down != "sorry":
            yield Finding((*here, "sorry_server"), f'never used with on_all_down = "{service.on_all_down}"')
        if service.fwmark and "protocol" in service.model_fields_set:
            yield Finding((*here, "protocol"), "not used: the firewall mark says which packets are meant")
        weights = {server.weight for server in service.server} - {0}
        if service.scheduler in UNWEIGHTED and len(weights) > 1:
            yield Finding((*here, "scheduler"), f'scheduler "{service.scheduler}" looks at no weights',
                          f'"w{service.scheduler}"' if service.scheduler != "dh" else '"sh" or "mh"')  # fmt: skip


def shared_probe_address(config: Config) -> Iterator[Finding]:
    """One address probed for several servers: they live and die together."""
    for number, service in enumerate(config.service):
        for place, probe in enumerate(service.probe):
            if probe.address and len(service.server) > 1:
                yield Finding(
                    ("service", number, "probe", place, "address"),
                    f"asked for all {len(service.server)} servers: they go up and down together",
                )


def director_is_server(config: Config) -> Iterator[Finding]:
    """A director that is a real server schedules again what the owner sent it."""
    if len(config.director) < 2:
        return
    directors = {address: node.name for node in config.director for address in node.links}
    always = {group.name for group in config.group if group.ipvs == "always"}
    for number, service in enumerate(config.service):
        for place, server in enumerate(service.server):
            name = directors.get(server.address)
            if name and service.group in always and service.forward_of(server) == "direct":
                yield Finding(
                    ("service", number, "server", place, "address"),
                    f'director "{name}" is a real server here: with a table of its own it schedules again what the'
                    " owner sends it, and packets may circle",
                    f'ipvs = "owner" in group "{service.group}"',
                )


def unknown_forwarders(config: Config) -> Iterator[Finding]:
    """A director knows who forwards to it by the heartbeat links that run over the VIP's interface."""
    if not config.leased or len(config.director) < 2:
        return
    links = {address for node in config.director for address in node.links}
    for number, group in enumerate(config.group):
        servers = [server.address for service in config.service if service.group == group.name
                   for server in service.server]  # fmt: skip
        if group.ipvs == "owner" and servers and links.isdisjoint(servers):
            yield Finding(
                ("group", number, "ipvs"),
                "no real server of the group is at a director's heartbeat link: if the directors are its real servers,"
                " they drop what the owner forwards, unless a link runs over the VIP's interface",
                "directors as servers at addresses in their links",
            )


def synchronisation(config: Config) -> Iterator[Finding]:
    """The kernel runs one master and one backup of the synchronisation daemon."""
    numbers = [number for number, group in enumerate(config.group) if group.sync is not None]
    settings = Counter((group.sync.interface, group.sync.id) for group in config.group if group.sync is not None)
    for number in numbers:
        if len(config.director) < 2:
            yield Finding(("group", number, "sync"), "not used: there is no second director to tell of connections")
        elif len(settings) > 1 and number != numbers[0]:
            yield Finding(
                ("group", number, "sync"),
                "not the same as another group's: the kernel runs one synchronisation daemon for all groups",
                "the same interface and id in every group",
            )


def never_notified(config: Config) -> Iterator[Finding]:
    """Programs that are never run."""
    for number, group in enumerate(config.group):
        if group.notify is not None and not config.leased:
            yield Finding(("group", number, "notify"), "never run: a single director owns its groups for good")


def plain_login(config: Config) -> Iterator[Finding]:
    """A password in the clear."""
    for name, alert in config.alert.email.items():
        if alert.username and alert.tls == "none":
            yield Finding(
                ("alert", "email", name, "tls"), "the password goes over the network in the clear", "starttls"
            )


def event_names(config: Config) -> Iterator[Finding]:
    """An alert for events that never happen."""
    alerts = [("email", *item) for item in config.alert.email.items()]
    hooks = [("webhook", *item) for item in config.alert.webhook.items()]
    programs = [("program", *item) for item in config.alert.program.items()]
    for kind, name, alert in (*alerts, *hooks, *programs):
        for place, event in enumerate(alert.events):
            if event not in EVENT_NAMES:
                hint = nearest(event, EVENT_NAMES)
                yield Finding(("alert", kind, name, "events", place), f"no event has this name{hint}")


def token_in_the_clear(config: Config) -> Iterator[Finding]:
    """A token that everybody on the way can read."""
    console = config.console
    tokens = any(user.token_file for user in console.user.values())
    if console.page and tokens and beyond_loopback(console.listen) and not console.certificate:
        yield Finding(
            ("console", "listen"), "tokens and what the page shows go over the network in the clear", "certificate, key"
        )


RULES = (
    nothing_to_do, weak_quorum, one_link, unused_profile, unprobed, ungrouped, unused_keys, shared_probe_address,
    director_is_server, unknown_forwarders, synchronisation, never_notified, plain_login, event_names,
    token_in_the_clear,
)  # fmt: skip
