"""What the system, OpenSSL and plug-ins raise, in words that a person understands at night."""

from __future__ import annotations

import errno
import os
import ssl
from socket import gaierror

from hawatch.model import NS_PER_MS, NS_PER_S
from hawatch.text import clean, cut, quoted

CONNECT_REASONS = {
    errno.ECONNREFUSED: "connection refused",
    errno.EHOSTUNREACH: "host unreachable",
    errno.ENETUNREACH: "network unreachable",
    errno.ETIMEDOUT: "no connection: the kernel gave up",
    errno.ECONNRESET: "connection reset while it was made",
    errno.EACCES: "this machine forbids the connection (firewall?)",
    errno.EPERM: "this machine forbids the connection (firewall?)",
    errno.EMFILE: "this machine is out of file descriptors",
    errno.ENFILE: "this machine is out of file descriptors",
    errno.ENOMEM: "this machine is out of memory",
    errno.ENOBUFS: "this machine is out of network buffers",
    errno.EADDRNOTAVAIL: "this machine has no free local address or port for the connection",
    errno.ENODEV: "this machine has no such interface",
    errno.EAFNOSUPPORT: "this machine does not speak this address family",
}

OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL, errno.ENODEV})
"""Errors that tell of this machine: a server is not down because we have run out of something."""

X509_REASONS = {
    9: "certificate is not yet valid",
    10: "certificate has expired",
    18: "certificate is self-signed",
    19: "certificate's chain ends in an unknown self-signed CA",
    20: "certificate's issuer is unknown",
    21: "certificate's issuer is unknown",
    23: "certificate is revoked",
    24: "certificate's issuer is no CA",
    26: "certificate is not meant for servers",
}
"""By OpenSSL's X509_V_ERR number."""

TLS_RECORD_TYPES = frozenset({0x14, 0x15, 0x16, 0x17})
"""First octet of every TLS record, RFC 8446 section 5.1."""


class Fault(Exception):
    """The attempt fails; the message is its reason."""


def is_ours(error: BaseException | None) -> bool:
    """Tell whether an error comes of what this machine lacks, so that nothing was learnt about the server."""
    return isinstance(error, OSError) and error.errno in OURS


def format_duration(duration_ns: int) -> str:
    """Return a duration as people write it: "1 s", "1.5 s", "250 ms"."""
    if duration_ns >= NS_PER_S:
        return f"{duration_ns / NS_PER_S:g} s"
    return f"{duration_ns / NS_PER_MS:g} ms"


def deadline_reason(waiting_for: str, timeout_ns: int) -> str:
    """Return the reason of an attempt that its deadline ended."""
    return f"no {waiting_for} in {format_duration(timeout_ns)}"


def connect_reason(error: OSError) -> str:
    """Return why there is no connection."""
    return CONNECT_REASONS.get(error.errno or 0) or f"no connection: {_error_text(error)}"


def broken_reason(error: BaseException | None, doing: str, received: int) -> str:
    """Return why a standing connection ended, how far it had come, and in the midst of what."""
    so_far = f"after {received} byte{'' if received == 1 else 's'}" if received else "before its first byte"
    if isinstance(error, OSError) and error.errno in (errno.ECONNRESET, errno.EPIPE):
        return f"connection reset by the server {so_far}, while {doing}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed {so_far}, while {doing}: {_ssl_text(error)}"
    if isinstance(error, OSError):
        return f"connection lost {so_far}, while {doing}: {_error_text(error)}"
    return f"connection lost {so_far}, while {doing}"


def handshake_reason(error: BaseException | None, first_bytes: bytes) -> str:
    """Return why the TLS handshake failed; `first_bytes` are those that the server answered with."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return X509_REASONS.get(error.verify_code) or f"certificate refused: {error.verify_message}"
    if first_bytes and first_bytes[0] not in TLS_RECORD_TYPES:
        return f"no TLS: the server answered in the clear: {quoted(first_bytes)}"
    if isinstance(error, OSError) and error.errno in (errno.ECONNRESET, errno.EPIPE):
        return "connection reset by the server in the TLS handshake"
    if isinstance(error, ssl.SSLError) and "ALERT" in _ssl_reason(error):
        return f"TLS refused by the server: {_ssl_text(error)}"
    if isinstance(error, ssl.SSLError) and not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return f"TLS handshake failed: {_ssl_text(error)}"
    return "connection closed by the server in the TLS handshake"


def exception_reason(error: BaseException) -> str:
    """Return the reason for an exception that escaped a probe: its kind and its words."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    words = cut(clean(str(error)))
    return f"the probe raised {type(error).__name__}" + (f": {words}" if words else "")


def _error_text(error: OSError) -> str:
    if isinstance(error, gaierror):
        return f"the name cannot be resolved ({error.strerror})"
    return os.strerror(error.errno) if error.errno else cut(clean(str(error)))


def _ssl_text(error: ssl.SSLError) -> str:
    """Return OpenSSL's reason in words: "TLSV13_ALERT_CERTIFICATE_REQUIRED" as "certificate required"."""
    reason = _ssl_reason(error) or cut(clean(str(error)))
    return reason.rpartition("ALERT_")[2].replace("_", " ").lower()


def _ssl_reason(error: ssl.SSLError) -> str:
    """Return OpenSSL's name of the error; an SSLError that Python raised itself has none."""
    return getattr(error, "reason", "") or ""
