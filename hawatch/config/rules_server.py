"""Rules about the real servers of a service."""

from __future__ import annotations

from collections.abc import Iterator

from hawatch.config.positions import Path
from hawatch.config.problems import Finding
from hawatch.config.schema import Server, Service, TunnelConfig
from hawatch.model import TunnelChecksum, TunnelType


def servers_once(service: Service, here: Path) -> Iterator[Finding]:
    """A server is in a service once."""
    seen: set[tuple[str, int]] = set()
    for number, server in enumerate(service.server):
        key = (server.address, service.port_of(server))
        if key in seen:
            yield Finding(
                (*here, "server", number, "address"), f"port {key[1]} of this server is in the service already",
                "each server once", depends=((*here, "server", number, "port"), (*here, "port")),
            )  # fmt: skip
        seen.add(key)


def ports(service: Service, here: Path) -> Iterator[Finding]:
    """Only masquerading changes a port."""
    wanted = service.port or 0
    for number, server in enumerate(service.server):
        forward = service.forward_of(server)
        path = (*here, "server", number, "port")
        depends = ((*here, "port"), (*here, "forward"), (*here, "fwmark"), (*here, "server", number, "forward"))
        if server.port is None or server.port == wanted:
            continue
        if forward != "masquerade":
            yield Finding(
                path, f'forward "{forward}" cannot change the port {wanted}',
                'the service\'s port, or forward = "masquerade"; to probe another port, probe.port', depends=depends,
            )  # fmt: skip
        elif server.port == 0 and wanted:
            yield Finding(path, "port 0 in a service with a port", "1 to 65535", depends=depends)


def families(service: Service, here: Path) -> Iterator[Finding]:
    """Only a tunnel leads from one address family to the other."""
    for number, server in enumerate(service.server):
        forward = service.forward_of(server)
        if (":" in server.address) != service.is_ipv6 and forward != "tunnel":
            ours, theirs = ("IPv6", "IPv4") if service.is_ipv6 else ("IPv4", "IPv6")
            yield Finding(
                (*here, "server", number, "address"),
                f'an {theirs} server in an {ours} service with forward "{forward}"',
                f'an {ours} server, or forward = "tunnel"' + ("; or family" if service.fwmark else ""),
                depends=(
                    (*here, "address"), (*here, "forward"), (*here, "family"), (*here, "fwmark"),
                    (*here, "server", number, "forward"),
                ),
            )  # fmt: skip


def thresholds(service: Service, here: Path) -> Iterator[Finding]:
    """The lower threshold is under the upper one."""
    for number, server in enumerate(service.server):
        path = (*here, "server", number)
        if server.lower_threshold and not server.upper_threshold:
            yield Finding(
                (*path, "lower_threshold"), "a lower_threshold without an upper_threshold", "both or neither",
                depends=((*path, "upper_threshold"),),
            )  # fmt: skip
        elif server.lower_threshold > server.upper_threshold:
            yield Finding(
                (*path, "lower_threshold"), f"more than upper_threshold ({server.upper_threshold})",
                f"0 to {server.upper_threshold}", depends=((*path, "upper_threshold"),),
            )  # fmt: skip


def tunnels(service: Service, here: Path) -> Iterator[Finding]:
    """Tunnel options belong to a tunnel, and to its type."""
    sorry = service.sorry_forward or service.forward if service.sorry_server else ""
    tunnelled = {service.forward, sorry, *(service.forward_of(server) for server in service.server)}
    if service.tunnel is not None:
        if "tunnel" not in tunnelled:
            yield without_tunnel((*here, "tunnel"), service.forward, (*here, "forward"))
        yield from tunnel_options(service.tunnel, (*here, "tunnel"))
    for number, server in enumerate(service.server):
        if server.tunnel is not None:
            path = (*here, "server", number)
            yield from server_tunnel(service, server, server.tunnel, path)


def server_tunnel(service: Service, server: Server, tunnel: TunnelConfig, path: Path) -> Iterator[Finding]:
    """Yield what is wrong with a server's own tunnel options."""
    if service.forward_of(server) != "tunnel":
        yield without_tunnel((*path, "tunnel"), service.forward_of(server), (*path, "forward"))
    yield from tunnel_options(tunnel, (*path, "tunnel"))


def without_tunnel(path: Path, forward: str, forward_path: Path) -> Finding:
    """Return the finding of tunnel options that nothing uses."""
    return Finding(path, f'tunnel options with forward "{forward}"', 'forward = "tunnel"', depends=(forward_path,))


def tunnel_options(tunnel: TunnelConfig, path: Path) -> Iterator[Finding]:
    """Yield what does not go together in one table of tunnel options."""
    depends = ((*path, "type"), (*path, "port"))
    if tunnel.type is TunnelType.GUE and tunnel.port is None:
        yield Finding((*path, "port"), "missing: GUE is carried in UDP", "a UDP port, 1 to 65535", depends=depends)
    if tunnel.type is not TunnelType.GUE and tunnel.port is not None:
        yield Finding((*path, "port"), f'a port with type "{tunnel.type}"', 'type = "gue"', depends=depends)
    if tunnel.type is TunnelType.IPIP and tunnel.checksum is not TunnelChecksum.NONE:
        yield Finding((*path, "checksum"), "IPIP has no checksum", 'type = "gue" or "gre"', depends=depends)
    if tunnel.type is TunnelType.GRE and tunnel.checksum is TunnelChecksum.REMOTE:
        yield Finding((*path, "checksum"), "remote checksum offload is GUE's", '"none", "checksum"', depends=depends)


SERVER_RULES = (servers_once, ports, families, thresholds, tunnels)
