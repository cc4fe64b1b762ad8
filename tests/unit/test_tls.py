from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from hawatch.faults import Fault
from hawatch.plugin import TlsOptions
from hawatch.tls import certificate_names, name_matches, tls_context
from tests.unit.servers import Pki, make_pki


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


def openssl_accepts(server: ssl.SSLContext, ca_file: str, name: str) -> bool:
    """Make a handshake in memory with OpenSSL judging the name."""
    client = ssl.create_default_context(cafile=ca_file)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(6):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
    return True


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("www.example.org", "www.example.org"),
        ("WWW.example.org", "www.EXAMPLE.org"),
        ("www.example.org", "example.org"),
        ("example.org", "www.example.org"),
        ("*.example.org", "www.example.org"),
        ("*.example.org", "a.b.example.org"),
        ("*.example.org", "example.org"),
        ("*.org", "example.org"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.2"),
        ("::1", "::1"),
        ("::1", "0:0:0:0:0:0:0:1"),
        ("xn--bcher-kva.example", "bücher.example"),
    ],
)
def test_names_match_as_openssl_matches_them(pki: Pki, pattern: str, name: str) -> None:
    theirs = openssl_accepts(pki.server(pattern), pki.ca_file, name)
    if pattern == "*.org":
        assert not name_matches(pattern, name), "a wildcard right below the top is refused, whatever OpenSSL says"
    else:
        assert name_matches(pattern, name) is theirs


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("w*.example.org", "www.example.org"), ("www.*.org", "www.example.org"), ("*", "org"), ("", "")],
)
def test_odd_patterns_never_match_more_than_themselves(pattern: str, name: str) -> None:
    assert name_matches(pattern, name) is (pattern == name)


def test_common_name_does_not_count() -> None:
    assert certificate_names({"subject": ((("commonName", "www.example.org"),),)}) == []


def test_contexts_are_shared_and_made_anew_when_a_file_changes(pki: Pki, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(Path(pki.ca_file).read_bytes())
    first = tls_context(TlsOptions(ca_file=str(ca), server_name="a", min_days=1))
    assert tls_context(TlsOptions(ca_file=str(ca), server_name="b")) is first
    ca.touch()
    assert tls_context(TlsOptions(ca_file=str(ca))) is not first


def test_file_that_is_no_certificate(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    with pytest.raises(Fault, match=r"ca\.pem cannot be used for TLS"):
        tls_context(TlsOptions(ca_file=str(path)))


def test_days_need_verification() -> None:
    with pytest.raises(ValueError, match="min_days needs verify = true"):
        TlsOptions(verify=False, min_days=3)
