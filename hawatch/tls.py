"""TLS for probes: contexts, and what a certificate must satisfy beyond its chain.

OpenSSL judges the chain. The name is compared here, after the handshake and before anything is sent, because OpenSSL
does not tell which names a certificate has once it has refused it, and that is what one wants to read in the reason.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address

from hawatch.faults import Fault
from hawatch.model import NS_PER_S
from hawatch.plugin import TlsOptions
from hawatch.text import clean, cut

CONTEXTS_LIMIT = 256
"""Contexts kept; each holds a set of CAs."""
NAMES_SHOWN = 6
SECONDS_PER_DAY = 86_400


def tls_context(options: TlsOptions, *, check_name: bool = False) -> ssl.SSLContext:
    """Return the context for the options, made anew when one of its files has changed.

    `check_name`: OpenSSL shall compare the name, for a caller who cannot do it before something is sent.
    Raises Fault when a file cannot be used.
    """
    files = (options.ca_file, options.cert_file, options.key_file)
    return _context(options.verify, options.verify and check_name, *((path, _changed_ns(path)) for path in files))


@lru_cache(maxsize=CONTEXTS_LIMIT)
def _context(
    verify: bool,  # noqa: FBT001 - part of the cache's key
    check_name: bool,  # noqa: FBT001
    ca_file: tuple[str, int],
    cert_file: tuple[str, int],
    key_file: tuple[str, int],
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    context.check_hostname = check_name
    path = ca_file[0]
    try:
        if ca_file[0]:
            context.load_verify_locations(path)
        elif verify:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        path = cert_file[0]
        if cert_file[0]:
            context.load_cert_chain(path, key_file[0] or None, password=_no_password)
    except (OSError, ValueError) as error:
        raise Fault(f"{path} cannot be used for TLS: {cut(clean(str(error)))}") from error
    return context


def _no_password() -> str:
    raise ValueError("its key is encrypted")


def _changed_ns(path: str) -> int:
    if not path:
        return 0
    try:
        return os.stat(path).st_mtime_ns
    except OSError as error:
        raise Fault(f"{path} cannot be used for TLS: {os.strerror(error.errno or 0)}") from error


def check_certificate(certificate: Mapping[str, object], options: TlsOptions, server_name: str, wall_ns: int) -> str:
    """Return what is wrong with a certificate whose chain is verified, "" when nothing is."""
    if not options.verify:
        return ""
    names = certificate_names(certificate)
    if not any(name_matches(name, server_name) for name in names):
        shown = ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
        return f"certificate is for {cut(clean(shown)) or 'no name'}, wanted {server_name}"
    days = (ssl.cert_time_to_seconds(str(certificate["notAfter"])) - wall_ns // NS_PER_S) // SECONDS_PER_DAY
    if days < options.min_days:
        return f"certificate expires in {days} day{'' if days == 1 else 's'}, wanted at least {options.min_days}"
    return ""


def certificate_names(certificate: Mapping[str, object]) -> list[str]:
    """Return the host names and addresses that a certificate is for, from its subjectAltName alone."""
    pairs = certificate.get("subjectAltName", ())
    assert isinstance(pairs, tuple)
    return [value.strip() for kind, value in pairs if kind in ("DNS", "IP Address")]


def name_matches(pattern: str, name: str) -> bool:
    """Tell whether a name of a certificate covers `name`: RFC 9525 section 6.3.

    A "*" stands for exactly one label and only as the whole leftmost one. Addresses match as addresses.
    """
    address = _address(name)
    if address is not None or _address(pattern) is not None:
        return address is not None and address == _address(pattern)
    wanted = _ascii(name).rstrip(".").split(".")
    offered = pattern.lower().split(".")
    if offered[0] == "*" and len(offered) > 2:
        return offered[1:] == wanted[1:] and wanted[0] != ""
    return offered == wanted


def _address(text: str) -> object | None:
    try:
        return ip_address(text.partition("%")[0])
    except ValueError:
        return None


def _ascii(name: str) -> str:
    try:
        return name.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return name.lower()
