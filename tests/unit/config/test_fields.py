"""Kinds of values: what each accepts, and in which form it is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from hawatch.config import fields


@pytest.mark.parametrize(
    ("parse", "value", "kept"),
    [
        (fields.parse_name, "lvs1.example.org", "lvs1.example.org"),
        (fields.parse_name, "a" * 63, "a" * 63),
        (fields.parse_address, "192.168.1.1", "192.168.1.1"),
        (fields.parse_address, "2001:DB8:0:0::1", "2001:db8::1"),
        (fields.parse_vip, "192.168.1.110/24", "192.168.1.110/24"),
        (fields.parse_vip, "192.168.1.110", "192.168.1.110/32"),
        (fields.parse_vip, "2001:DB8::110", "2001:db8::110/128"),
        (fields.parse_interface, "bond0.100", "bond0.100"),
        (fields.parse_sorry, "192.168.1.99:80", "192.168.1.99:80"),
        (fields.parse_sorry, "[2001:DB8::99]:80", "[2001:db8::99]:80"),
        (fields.parse_sorry, "2001:db8::99", "[2001:db8::99]"),
        (fields.parse_sorry, "192.168.1.99", "192.168.1.99"),
        (fields.parse_mask, 24, 24),
        (fields.parse_mask, "24", 24),
        (fields.parse_mask, "/24", 24),
        (fields.parse_mask, "255.255.255.0", 24),
        (fields.parse_mask, 128, 128),
        (fields.parse_host_port, "mail.example.org:587", "mail.example.org:587"),
        (fields.parse_host_port, "[::1]:25", "[::1]:25"),
        (fields.parse_url, "https://example.org/a?b=c", "https://example.org/a?b=c"),
        (fields.parse_url, "http://me:secret@[2001:db8::1]:8080/a", "http://me:secret@[2001:db8::1]:8080/a"),
        (fields.parse_mail_address, "ops@example.org", "ops@example.org"),
        (fields.parse_path, "/etc/x", "/etc/x"),
    ],
)
def test_accepted(parse, value, kept):
    assert parse(value) == kept


@pytest.mark.parametrize(
    ("parse", "values"),
    [
        (fields.parse_name, ["", "all", "a b", "-a", "ä", "a\n", "a" * 64, 1, None]),
        (fields.parse_address, ["", "host", "224.0.0.1", "ff02::1", "0.0.0.0", "::", "255.255.255.255", "fe80::1%eth0",
                                "192.168.1.1/24", "192.168.1.256", "0192.168.1.1", 3232235777, True]),
        (fields.parse_vip, ["192.168.1.1/33", "192.168.1.1/0", "192.168.1.1/", "192.168.1.1/255.255.255.0",
                            "192.168.1.1/٢٤", "::1/129", 5]),
        (fields.parse_interface, ["", "a" * 16, "eth0:1", "a/b", "a b", ".", "..", 1]),
        (fields.parse_sorry, ["host:80", "192.168.1.99:0", "192.168.1.99:65536", "192.168.1.99:", "[::1", "[::1]80",
                              "192.168.1.99:٨٠", 80]),
        (fields.parse_mask, [0, 129, -1, True, "255.0.255.0", "0.0.0.255", "0.0.0.0", "x", "", 1.5]),
        (fields.parse_host_port, ["mail", "mail:", ":25", "mail:x", "a b:25", "::1:25"]),
        (
            fields.parse_url,
            ["example.org", "ftp://x", "https://", "https://x y", "https://x\n", "http:///x", "http://:80/", "http://[::1/",
             "http://x:0/", "http://x:65536/", "http://x:y/", "http://a..b/"],
        ),
        (fields.parse_mail_address, ["ops", "@x", "ops@", "a@b\nBcc: c@d", "a@b,c@d", "A <a@b>"]),
        (fields.parse_path, ["x", "./x", "/x\0y"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_refused(parse, values):
    for value in values:
        with pytest.raises(PydanticCustomError, match="accepted: "):
            parse(value)


@given(st.ip_addresses(), st.none() | st.integers(1, 65535))
def test_hosts_and_ports_come_apart_again(address, port):
    shown = f"[{address}]" if address.version == 6 else str(address)
    assert fields.split_host_port(shown if port is None else f"{shown}:{port}") == (str(address), port)


@given(st.text(max_size=12))
def test_any_text_is_split_or_refused(value):
    try:
        _, port = fields.split_host_port(value)
    except ValueError:
        return
    assert port is None or 0 < port <= 65535
