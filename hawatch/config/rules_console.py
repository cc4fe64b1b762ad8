"""Rules about the console's page: who may see it, and how he is recognised."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from hawatch.config.fields import split_host_port
from hawatch.config.problems import Finding
from hawatch.config.schema import Config


def beyond_loopback(listen: str) -> bool:
    """Tell whether others than this machine reach an address."""
    host = split_host_port(listen)[0] if listen else "localhost"
    if host == "localhost":
        return False
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return True


def readers(config: Config) -> Iterator[Finding]:
    """Beyond this machine nobody sees the page who is not known."""
    console = config.console
    if console.page and not console.user and beyond_loopback(console.listen):
        yield Finding(
            ("console", "listen"),
            "the page would be open to everybody who reaches this address",
            "a loopback address, a [console.user.NAME] with a token_file or a certificate, or page = false for the"
            " metrics alone",
            depends=(("console", "user"),),
        )


def users(config: Config) -> Iterator[Finding]:
    """Every user can be recognised."""
    console = config.console
    for name, user in console.user.items():
        here = ("console", "user", name)
        if not user.token_file and not user.certificate:
            yield Finding(here, "a user without a token_file and without a certificate", "at least one of them")
        if user.certificate and not console.client_ca:
            yield Finding((*here, "certificate"), "a client certificate that no CA vouches for", "client_ca as well")


def encryption(config: Config) -> Iterator[Finding]:
    """A certificate and its key come together."""
    console = config.console
    if bool(console.certificate) != bool(console.key):
        given, lacking = ("certificate", "key") if console.certificate else ("key", "certificate")
        yield Finding(("console", given), f"given without {lacking}", "certificate and key, or neither")
    if console.client_ca and not console.certificate:
        yield Finding(("console", "client_ca"), "client certificates without TLS", "certificate and key as well")


RULES = (readers, users, encryption)
