"""Rules about the members of the cluster, their links, and the lease."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from itertools import chain

from hawatch.cluster.parameters import RENEWALS_LOST_MAX, in_units, problems
from hawatch.config.positions import Path
from hawatch.config.problems import Finding
from hawatch.config.schema import Config, Node

ACCEPTORS_MIN = 3
"""With fewer there is no majority that outlives a member."""
ALL_NODES: tuple[Path, ...] = (("director", "*"), ("witness", "*"))


def nodes_with_paths(config: Config) -> Iterator[tuple[Path, Node]]:
    """Yield every member of the cluster with its path."""
    return chain(
        ((("director", number), node) for number, node in enumerate(config.director)),
        ((("witness", number), node) for number, node in enumerate(config.witness)),
    )


def node_names(config: Config) -> Iterator[Finding]:
    """Every node has a name of its own."""
    seen: dict[str, Path] = {}
    for path, node in nodes_with_paths(config):
        if node.name in seen:
            yield Finding((*path, "name"), f'a second node named "{node.name}"', "a name for each node")
        seen.setdefault(node.name, path)


def link_counts(config: Config) -> Iterator[Finding]:
    """Every node of a cluster has the same number of links, and at least one."""
    nodes = list(nodes_with_paths(config))
    if not config.leased:
        return
    wanted = len(nodes[0][1].links)
    for path, node in nodes:
        depends = ((*path, "links"), (*path, "links", "*"), (*nodes[0][0], "links", "*"))
        if not node.links:
            yield Finding((*path, "links"), "no link", "the node's address on each heartbeat path", "0 links", depends)
        elif wanted and len(node.links) != wanted:
            yield Finding(
                (*path, "links"),
                f'not as many links as "{nodes[0][1].name}"',
                f"{wanted}, one a heartbeat path, in the same order on every node",
                f"{len(node.links)}",
                depends,
            )


def link_addresses(config: Config) -> Iterator[Finding]:
    """Every link's address is a node's own: no other node has it, and no group."""
    seen: dict[str, str] = {}
    vips = {vip.address.partition("/")[0]: group.name for group in config.group for vip in group.addresses}
    for path, node in nodes_with_paths(config):
        for number, address in enumerate(node.links):
            here = (*path, "links", number)
            if address in seen:
                yield Finding(here, f'the address of a link of "{seen[address]}" already', "an address of its own")
            if address in vips:
                yield Finding(here, f'a VIP of group "{vips[address]}": it moves', "an address that stays")
            seen.setdefault(address, node.name)


def link_families(config: Config) -> Iterator[Finding]:
    """The addresses of one heartbeat path are of one family."""
    nodes = list(nodes_with_paths(config))
    for path, node in nodes[1:]:
        for number, (first, address) in enumerate(zip(nodes[0][1].links, node.links, strict=False)):
            if (":" in first) != (":" in address):
                yield Finding(
                    (*path, "links", number),
                    f'another address family than the same path of "{nodes[0][1].name}" ({first})',
                    "IPv6" if ":" in first else "IPv4",
                    depends=((*nodes[0][0], "links", "*"), (*path, "links", "*")),
                )


def scopes(config: Config) -> Iterator[Finding]:
    """What is asked or heard has an address that means the same on every interface."""
    if not config.leased:
        return
    places: list[tuple[Path, str]] = [
        (("cluster", "gateway", number), address) for number, address in enumerate(config.cluster.gateway)
    ]
    for path, node in nodes_with_paths(config):
        places += [((*path, "links", number), address) for number, address in enumerate(node.links)]
    for path, address in places:
        if ":" in address and ip_address(address).is_link_local:
            yield Finding(
                path,
                "a link-local address, which every network has, does not say where it is",
                "an address of one network: global, or of fd00::/8",
                address,
            )


def quorum(config: Config) -> Iterator[Finding]:
    """The members can decide in the way that `quorum` says."""
    if not config.leased:
        return
    here = ("cluster", "quorum")
    directors, witnesses = len(config.director), len(config.witness)
    depends = (*ALL_NODES, here)
    if config.cluster.quorum == "witness":
        yield from witness_quorum(directors, witnesses, depends)
        return
    if directors != 2:
        yield Finding(
            here,
            f'quorum = "{config.cluster.quorum}" is for exactly two directors, and there are {directors}',
            'two directors, or quorum = "witness"',
            depends=depends,
        )
    if config.cluster.quorum == "gateway" and not config.cluster.gateway:
        yield Finding(
            ("cluster", "gateway"),
            'quorum = "gateway" without a gateway to ask',
            'the address of at least one router of the client network, like gateway = ["192.168.1.254"]',
            depends=(*depends, ("cluster", "gateway", "*")),
        )


def witness_quorum(directors: int, witnesses: int, depends: tuple[Path, ...]) -> Iterator[Finding]:
    """With witnesses, the directors and they are odd in number, three or more."""
    members = directors + witnesses
    here = ("cluster", "quorum")
    if not directors:
        yield Finding(("witness",), "a witness without a director", "at least one [[director]]", depends=depends)
    elif directors == 2 and not witnesses:
        yield Finding(
            here,
            "two directors have no majority without each other",
            'a [[witness]] on any third machine, or quorum = "gateway" or "none" with their weaker promise',
            depends=depends,
        )
    elif members % 2 == 0 or members < ACCEPTORS_MIN:
        yield Finding(
            here,
            f"{members} members vote ({directors} directors, {witnesses} witnesses)",
            f"an odd number, {ACCEPTORS_MIN} or more",
            depends=depends,
        )


def key(config: Config) -> Iterator[Finding]:
    """Nodes that talk to each other need a key."""
    if config.leased and not config.cluster.key_file:
        yield Finding(
            ("cluster", "key_file"),
            "missing: several nodes talk to each other only with a key",
            "the path of a file that `hawatch keygen FILE` makes, the same on every node",
            depends=ALL_NODES,
        )


def lease(config: Config) -> Iterator[Finding]:
    """The lease's durations keep the rules that make it safe."""
    cluster = config.cluster
    depends = (("cluster", "lease"), ("cluster", "heartbeat"))
    if (cluster.lease is None) != (cluster.heartbeat is None):
        given, lacking = ("lease", "heartbeat") if cluster.heartbeat is None else ("heartbeat", "lease")
        yield Finding(
            ("cluster", given), f"given without {lacking}", "lease and heartbeat, or neither", depends=depends
        )
        return
    parameters = cluster.parameters
    longest = in_units(max(0, parameters.holder_ns) // (RENEWALS_LOST_MAX + 1))
    for sentence in problems(parameters):
        about_lease = sentence.startswith("lease")
        yield Finding(
            ("cluster", "lease" if about_lease else "heartbeat"),
            f"{sentence} (the holder has {in_units(max(0, parameters.holder_ns))} of it)",
            "a longer lease" if about_lease else f"at most {longest} with this lease, or a longer lease",
            depends=depends,
        )


RULES = (node_names, link_counts, link_addresses, link_families, scopes, quorum, key, lease)
