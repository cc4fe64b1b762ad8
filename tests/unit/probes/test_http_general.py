"""HTTP/2, proxies and redirects, against a real nginx and against servers that misbehave."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from pydantic import ValidationError

from hawatch.agent.runner import run_probe
from hawatch.model import NS_PER_MS, NS_PER_S
from hawatch.plugin import Attempt, Result, Target
from hawatch.probes.http import HttpOptions, HttpProbe
from tests.unit.servers import Handler, Pki, closed_port, make_pki, over_tls, silence, tcp_server

NGINX = """\
daemon off; master_process off; pid {folder}/pid; error_log {folder}/log;
events {{ }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen 127.0.0.1:{clear}; listen 127.0.0.1:{tls} ssl http2; listen 127.0.0.1:{clear2} http2;
    server_name www.example.org 127.0.0.1;
    ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
    location = / {{ return 200 "$server_protocol $host\\n"; }}
    location = /moved {{ return 301 /; }}
    location = /twice {{ return 302 /moved; }}
    location = /upgrade {{ return 307 https://$host:{tls}/; }}
    location = /downgrade {{ return 307 http://$host:{clear}/; }}
    location = /loop {{ return 302 /loop; }}
    location = /sick {{ return 503; }}
    location = /to-sick {{ return 302 /sick; }}
    location = /see-other {{ return 303 /method; }}
    location = /method {{ return 200 "$request_method\\n"; }}
    location = /elsewhere {{ return 302 http://localhost:{clear}/secret; }}
    location = /secret {{ return 200 "[$http_authorization]\\n"; }}
    location = /ftp {{ return 302 ftp://127.0.0.1/; }}
  }}
}}
"""


class Nginx:
    """A web server on loopback."""

    def __init__(self, clear: int, clear2: int, tls: int, ca_file: str) -> None:
        self.clear, self.clear2, self.tls, self.ca_file = clear, clear2, tls, ca_file


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[Nginx]:
    folder = tmp_path_factory.mktemp("nginx")
    clear, clear2, tls = (trio.run(closed_port) for _ in range(3))
    leaf = pki.ca.issue_cert("www.example.org")
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(str(folder / "key.pem"))
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, clear=clear, clear2=clear2, tls=tls))
    with subprocess.Popen(["nginx", "-e", f"{folder}/log", "-c", str(config)]) as process:
        try:
            for _ in range(200):
                if (folder / "pid").exists() and (folder / "pid").read_text().strip():
                    break
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.02)
            yield Nginx(clear, clear2, tls, pki.ca_file)
        finally:
            process.terminate()


async def ask(port: int, timeout_ns: int = 5 * NS_PER_S, address: str = "127.0.0.1", **options: object) -> Result:
    probe = HttpProbe(HttpOptions.model_validate(options), Target(address, port))
    assert not probe.is_conversation()
    return (await run_probe(probe, Attempt(timeout_ns))).result


def secure(nginx: Nginx, **more: object) -> dict[str, object]:
    return {"security": "tls", "host": "www.example.org", "tls": {"ca_file": nginx.ca_file}, **more}


@pytest.mark.parametrize(
    ("path", "redirects", "reason"),
    [
        ("/", 1, ""),
        ("/moved", 1, ""),
        ("/twice", 2, ""),
        ("/twice", 1, "HTTP 301 to http://127.0.0.1:{clear}/, wanted no more than 1 redirects, "
         "at http://127.0.0.1:{clear}/moved after 1 redirect"),
        ("/loop", 3, "HTTP 302 to http://127.0.0.1:{clear}/loop, wanted no more than 3 redirects, "
         "at http://127.0.0.1:{clear}/loop after 3 redirects"),
        ("/to-sick", 2, "HTTP 503, wanted 200-299, at http://127.0.0.1:{clear}/sick after 1 redirect"),
        ("/ftp", 2, "HTTP 302 to ftp://127.0.0.1/, which is not followed: only to http and https"),
    ],
)  # fmt: skip
async def test_redirects(nginx: Nginx, path: str, redirects: int, reason: str) -> None:
    result = await ask(nginx.clear, path=path, redirects=redirects)
    assert (result.ok, result.reason) == (not reason, reason.format(clear=nginx.clear))


async def test_a_wanted_status_is_not_followed(nginx: Nginx) -> None:
    result = await ask(nginx.clear, path="/moved", redirects=2, status=[301])
    assert result.ok


async def test_a_redirect_to_tls_goes_to_the_same_server_and_is_verified(nginx: Nginx) -> None:
    options = {"path": "/upgrade", "redirects": 1, "host": "www.example.org", "body": "www.example.org"}
    result = await ask(nginx.clear, **options, tls={"ca_file": nginx.ca_file})
    assert result.ok, result.reason
    refused = await ask(nginx.clear, **options)
    assert refused.reason.startswith("certificate's issuer is unknown, at ")
    assert refused.reason.endswith(f", at https://www.example.org:{nginx.tls}/ after 1 redirect")


async def test_a_redirect_out_of_tls_is_not_followed(nginx: Nginx) -> None:
    result = await ask(nginx.tls, **secure(nginx, path="/downgrade", redirects=3))
    assert result.reason == f"HTTP 307 to http://www.example.org:{nginx.clear}/, which is not followed: only to https"


async def test_what_is_said_to_the_server_is_not_said_to_others(nginx: Nginx) -> None:
    result = await ask(
        nginx.clear, path="/elsewhere", redirects=1, headers={"Authorization": "Basic c2VjcmV0"}, body="[]"
    )
    assert result.ok, result.reason


@pytest.mark.parametrize(("method", "path", "asked"), [("POST", "/see-other", "GET"), ("GET", "/method", "GET")])
async def test_methods_after_a_redirect(nginx: Nginx, method: str, path: str, asked: str) -> None:
    assert (await ask(nginx.clear, method=method, path=path, redirects=1, body=asked)).ok


async def test_head(nginx: Nginx) -> None:
    assert (await ask(nginx.clear, method="HEAD", path="/moved", redirects=1)).ok


async def test_http_2(nginx: Nginx) -> None:
    over_clear = await ask(nginx.clear2, version="2", body="HTTP/2.0 127.0.0.1")
    assert over_clear.ok, over_clear.reason
    over_tls_too = await ask(nginx.tls, **secure(nginx, version="2", body="HTTP/2.0 www.example.org"))
    assert over_tls_too.ok, over_tls_too.reason


async def test_a_server_without_http_2(nginx: Nginx, pki: Pki) -> None:
    clear = await ask(nginx.clear, version="2")
    assert clear.reason.startswith("not an HTTP answer")

    async def old(stream: trio.abc.Stream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with tcp_server(over_tls(pki.server("www.example.org"), old)) as port:
        result = await ask(port, **secure(nginx, version="2"))
    assert result.reason == "the server speaks HTTP/1.1, wanted HTTP/2"


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        ({"server_name": "www.example.net"}, "www.example.net"),
        ({"min_days": 3650, "server_name": "www.example.org"}, "wanted at least 3650"),
        ({"ca_file": ""}, "certificate's issuer is unknown"),
    ],
)
async def test_certificates_are_verified(pki: Pki, tls: dict[str, object], words: str) -> None:
    asked = trio.Event()

    async def handler(stream: trio.abc.Stream) -> None:
        if await stream.receive_some(65536):
            asked.set()
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with tcp_server(over_tls(pki.server("www.example.org"), handler)) as port:
        result = await ask(port, security="tls", redirects=1, tls={"ca_file": pki.ca_file, **tls})
    assert not result.ok
    assert words in result.reason
    assert asked.is_set() is ("min_days" in tls), "a server with a wrong name is told nothing"


async def test_through_a_proxy(nginx: Nginx) -> None:
    seen: list[bytes] = []

    async def proxy(stream: trio.SocketStream) -> None:
        seen.append(bytes(await stream.receive_some(65536)))
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with tcp_server(proxy) as port:
        result = await ask(8080, address="192.0.2.7", path="/x", proxy=f"http://127.0.0.1:{port}", body="ok")
    assert result.ok, result.reason
    assert seen[0].startswith(b"GET http://192.0.2.7:8080/x HTTP/1.1\r\n")


async def test_a_proxy_that_is_not_there() -> None:
    proxy = f"http://127.0.0.1:{await closed_port()}"
    assert (await ask(80, address="192.0.2.7", proxy=proxy)).reason == "connection refused"


def say(data: bytes, *, then_wait: bool = False) -> Handler:
    async def handler(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(data)
        if then_wait:
            await trio.sleep_forever()

    return handler


async def endless_body(stream: trio.SocketStream) -> None:
    await stream.receive_some(65536)
    await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        await stream.send_all(bytes(65536))


async def endless_interim_answers(stream: trio.SocketStream) -> None:
    await stream.receive_some(65536)
    while True:
        await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


async def endless_header(stream: trio.SocketStream) -> None:
    await stream.receive_some(65536)
    await stream.send_all(b"HTTP/1.1 200 OK\r\n")
    while True:
        await stream.send_all(b"X: " + b"y" * 1000 + b"\r\n")


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (silence, "no HTTP answer in 300 ms"),
        (say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", then_wait=True), "no end of the HTTP body in 300 ms"),
        (say(b"220 mail.example.org ESMTP\r\n"), "not an HTTP answer: "),
        (say(b""), "not an HTTP answer: Server disconnected"),
        (say(b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n"), 'HTTP 302 to "http://[", which'),
        (say(b"HTTP/1.1 302 Found\r\nLocation: http://xn--a/\r\nContent-Length: 0\r\n\r\n"), 'HTTP 302 to "http://xn--a/'),
        (say(b"HTTP/1.1 302 Found\r\nLocation: http:///\r\nContent-Length: 0\r\n\r\n"), 'HTTP 302 to "http:///", which'),
        (say(b"HTTP/1.1 302 Found\r\nLocation: " + b"/x" * 3000 + b"\r\nContent-Length: 0\r\n\r\n"), 'HTTP 302 to "/x'),
        (say(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"), "HTTP 302, wanted 200-299"),
        (endless_header, "not an HTTP answer: "),
        (endless_interim_answers, "more than 131072 bytes before the end of the HTTP headers"),
        (endless_body, "HTTP body of more than 1000 bytes"),
    ],
)  # fmt: skip
async def test_hostile_servers(handler: Handler, reason: str) -> None:
    async with tcp_server(handler) as port:
        result = await ask(port, 300 * NS_PER_MS, redirects=2, size_limit=1000)
    assert not result.ok
    assert result.reason.startswith(reason)


async def test_reset_in_mid_answer() -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        await trio.sleep(0.05)
        stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    async with tcp_server(handler) as port:
        result = await ask(port, redirects=1)
    assert result.reason == "connection reset by the server after 4 bytes, while waiting for end of the HTTP body"


async def test_refused_and_no_tls(nginx: Nginx) -> None:
    assert (await ask(await closed_port(), redirects=1)).reason == "connection refused"
    assert (await ask(nginx.clear, **secure(nginx, redirects=1))).reason.startswith("TLS handshake failed")


async def test_a_redirect_to_a_silent_host_is_named() -> None:
    async with tcp_server(silence) as quiet:
        location = f"http://localhost:{quiet}/x".encode()
        async with tcp_server(
            say(b"HTTP/1.1 302 F\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n")
        ) as port:
            result = await ask(port, 300 * NS_PER_MS, redirects=1)
    assert result.reason == f"no HTTP answer from localhost:{quiet} in 300 ms"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"redirects": 11}, "redirects"),
        ({"redirects": -1}, "redirects"),
        ({"version": "3"}, "version"),
        ({"proxy": "proxy:3128"}, 'like "http://192.0.2.1:3128"'),
        ({"proxy": "http://192.0.2.1"}, 'like "http://192.0.2.1:3128"'),
        ({"proxy": "http://192.0.2.1:99999"}, 'like "http://192.0.2.1:3128"'),
        ({"proxy": "https://192.0.2.1:3128"}, 'like "http://192.0.2.1:3128"'),
        ({"proxy": "http://192.0.2.1:3128", "security": "tls"}, "proxy goes with"),
        ({"proxy": "http://192.0.2.1:3128", "version": "2"}, "proxy goes with"),
    ],
)
def test_options_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        HttpOptions.model_validate(options)
    assert words in str(caught.value)


def test_nobody_else_pays_for_httpx(tmp_path: Path) -> None:
    program = (
        "import sys; from hawatch.probes.http import HttpOptions as O, HttpProbe as P; from hawatch.plugin import Target;"
        "import hawatch.agent.main;"
        "P(O(), Target('192.0.2.1', 80)); assert 'httpx' not in sys.modules;"
        "P(O(redirects=1), Target('192.0.2.1', 80)); assert 'httpx' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_way_of_its_own_is_not_taken() -> None:
    assert HttpProbe.no_route(HttpOptions()) == ""
    assert HttpProbe.no_route(HttpOptions(redirects=1)) == "does not go with redirects, proxy or version"
