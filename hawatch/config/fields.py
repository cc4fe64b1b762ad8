"""The kinds of values in the configuration, each with what it accepts said once."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address, ip_interface, ip_network
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Strict, WithJsonSchema
from pydantic_core import PydanticCustomError

NAME_FORM = r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,62}"
INTERFACE_BYTES_MAX = 15
"""IFNAMSIZ without its closing zero."""
PORT_MAX = 65535


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values never change.

    A section's own validator is made when it is first wanted: the file is read by one validator for the whole of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


def unaccepted(accepted: str) -> PydanticCustomError:
    """Return the error of a value that is not accepted, saying what is."""
    return PydanticCustomError("unaccepted", "accepted: {accepted}", {"accepted": accepted})


def text(value: object, accepted: str) -> str:
    """Return `value` if it is a string."""
    if not isinstance(value, str):
        raise unaccepted(accepted)
    return value


def parse_name(value: object) -> str:
    """Return a name fit for commands, logs and datagrams."""
    accepted = 'a name of 1 to 63 letters, digits and _ . : - that begins with a letter or digit, and is not "all"'
    if re.fullmatch(NAME_FORM, text(value, accepted), re.ASCII) is None or value == "all":
        raise unaccepted(accepted)
    return str(value)


def parse_address(value: object) -> str:
    """Return a literal unicast address in its canonical form."""
    accepted = 'a literal unicast IPv4 or IPv6 address, like "192.168.1.1" or "2001:db8::1"'
    try:
        address = ip_address(text(value, accepted))
    except ValueError as error:
        raise unaccepted(accepted) from error
    if address.is_multicast or address.is_unspecified or "%" in str(address) or str(address) == "255.255.255.255":
        raise unaccepted(accepted)
    return str(address)


def parse_vip(value: object) -> str:
    """Return an address with its prefix length; without one it is a host's."""
    accepted = 'an address with its prefix length, like "192.168.1.110/32" or "2001:db8::110/128"'
    address, separator, prefix = text(value, accepted).partition("/")
    if separator and not (prefix.isascii() and prefix.isdigit() and len(prefix) <= 3):
        raise unaccepted(accepted)
    try:
        interface = ip_interface(f"{parse_address(address)}{separator}{prefix}")
    except (ValueError, PydanticCustomError) as error:
        raise unaccepted(accepted) from error
    if interface.network.prefixlen == 0:
        raise unaccepted(accepted)
    return str(interface)


def parse_interface(value: object) -> str:
    """Return the name of a network interface."""
    accepted = f'the name of a network interface, at most {INTERFACE_BYTES_MAX} characters, like "eth0"'
    name = text(value, accepted)
    if re.fullmatch(r"[!-.0-~]{1,15}", name, re.ASCII) is None or ":" in name or name in {".", ".."}:
        raise unaccepted(accepted)
    return name


def split_host_port(value: str) -> tuple[str, int | None]:
    """Return host and port of "host", "host:port", "v6" or "[v6]:port"; raise ValueError for anything else."""
    if value.startswith("["):
        host, bracket, rest = value[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(value)
        port = rest[1:] if rest else None
    elif value.count(":") > 1:
        host, port = value, None
    else:
        host, colon, tail = value.partition(":")
        port = tail if colon else None
    if port is None:
        return host, None
    if re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) is None or not 0 < int(port) <= PORT_MAX:
        raise ValueError(value)
    return host, int(port)


def parse_sorry(value: object) -> str:
    """Return the address of a sorry server, with or without its port."""
    accepted = 'an address with a port, like "192.168.1.99:80" or "[2001:db8::99]:80" (the service\'s port without one)'
    if value == "":
        return ""
    try:
        host, port = split_host_port(text(value, accepted))
        address = parse_address(host)
    except (ValueError, PydanticCustomError) as error:
        raise unaccepted(accepted) from error
    shown = f"[{address}]" if ":" in address else address
    return shown if port is None else f"{shown}:{port}"


def parse_mask(value: object) -> int:
    """Return the prefix length of a persistence mask: 24, "/24", "24" or "255.255.255.0"."""
    accepted = 'a prefix length (24, "/24", or 64 for IPv6) or an IPv4 netmask ("255.255.255.0")'
    if isinstance(value, int) and not isinstance(value, bool):
        prefix = value
    else:
        words = text(value, accepted)
        try:
            if "." in words:
                # A netmask only: ip_network would take an inverted one ("0.0.0.255") as well.
                prefix = ip_network(f"0.0.0.0/{words}").prefixlen
                if str(ip_network(f"0.0.0.0/{prefix}").netmask) != words:
                    raise unaccepted(accepted)
            else:
                prefix = int(words.removeprefix("/")) if words.isascii() and len(words) <= 4 else 0
        except ValueError as error:
            raise unaccepted(accepted) from error
    if not 1 <= prefix <= 128:
        raise unaccepted(accepted)
    return prefix


def listed(value: object) -> object:
    """Return what may be written alone or in an array as a list."""
    return value if isinstance(value, list | tuple) else [value]


def each(parse: Callable[[object], str]) -> BeforeValidator:
    """Make a validator of a parser, with a string for editors."""
    return BeforeValidator(parse, json_schema_input_type=str)


def parse_host_port(value: str) -> str:
    """Return "host:port" of a server that may be named; the port must be there."""
    accepted = 'a host and a port, like "mail.example.org:587"'
    try:
        host, port = split_host_port(value)
    except ValueError as error:
        raise unaccepted(accepted) from error
    if port is None or not host or re.search(r"\s", host):
        raise unaccepted(accepted)
    return value


def parse_url(value: str) -> str:
    """Return an http or https URL."""
    if re.fullmatch(r"https?://[!-~]{1,2000}", value, re.ASCII) is None or not _names_a_host(value):
        raise unaccepted(
            'a URL that begins with "https://" or "http://" and a host, perhaps with a port from 1 to 65535'
        )
    return value


def _names_a_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        if not host or port == 0:
            return False
        if ":" not in host:
            host.encode("idna")  # no label is empty or too long
    except ValueError:  # a bracket left open, a port that is none
        return False
    return True


def parse_mail_address(value: str) -> str:
    """Return a mail address that cannot break a header line."""
    if re.fullmatch(r"[^\s@<>,;]{1,64}@[^\s@<>,;]{1,255}", value) is None:
        raise unaccepted('a mail address, like "ops@example.org"')
    return value


def parse_path(value: str) -> str:
    """Return an absolute path, or "" for none."""
    if value and (not value.startswith("/") or "\0" in value):
        raise unaccepted('an absolute path, like "/etc/hawatch/cluster.key"')
    return value


Name = Annotated[str, each(parse_name)]
Address = Annotated[str, each(parse_address)]
VipAddress = Annotated[str, each(parse_vip)]
Interface = Annotated[str, each(parse_interface)]
SorryAddress = Annotated[str, each(parse_sorry)]
HostPort = Annotated[str, AfterValidator(parse_host_port)]
Url = Annotated[str, AfterValidator(parse_url)]
MailAddress = Annotated[str, AfterValidator(parse_mail_address)]
FilePath = Annotated[str, AfterValidator(parse_path)]
PersistenceMask = Annotated[
    int, BeforeValidator(parse_mask), WithJsonSchema({"type": ["integer", "string"], "examples": [24, "255.255.255.0"]})
]
Integer = Annotated[int, Strict()]
Boolean = Annotated[bool, Strict()]
