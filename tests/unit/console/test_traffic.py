"""On a kernel with IPVS: what clients do is seen in the metrics of a whole agent."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.lab import client
from tests.lab.daemons import nginx
from tests.lab.netns import call_in_namespace
from tests.lab.site import VIP, open_site

pytestmark = [pytest.mark.kernel, pytest.mark.slow]
PORT, LIMIT_S = 9694, 60
REQUESTS = 12
CONFIG = f"""
[[director]]
name = "lvs1"
[console]
listen = "127.0.0.1:{PORT}"
[[service]]
name = "http"
address = "{VIP}"
port = 80
scheduler = "rr"
forward = "masquerade"
probe = {{ type = "tcp", interval = "500ms", timeout = "400ms", rise = 1 }}
"""


def scrape():
    text = httpx.get(f"http://127.0.0.1:{PORT}/metrics").text
    return {
        (sample.name.removeprefix("hawatch_"), *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape_in(host):
    try:
        return call_in_namespace(host.namespace, scrape)
    except (httpx.HTTPError, OSError):
        return {}


def wait(host, true):
    """Scrape until it is true."""
    deadline = time.monotonic() + LIMIT_S
    while not true(found := scrape_in(host)):
        assert time.monotonic() < deadline, {key: value for key, value in found.items() if key[0].startswith("ipvs")}
        time.sleep(0.2)
    return found


@pytest.mark.timeout(240)
def test_what_clients_do_is_seen():
    with open_site(masquerade=True) as site:
        site.add_vip()
        daemons = [nginx(site, server) for server in site.servers[:2]]
        for daemon in daemons:
            daemon.start()
        for daemon in daemons:
            daemon.wait()
        names = [f"{server.address}:80" for server in site.servers[:2]]
        config = site.folder / "hawatch.toml"
        config.write_text(
            CONFIG + "".join(f'[[service.server]]\naddress = "{server.address}"\n' for server in site.servers[:2])
        )
        program = str(Path(sys.executable).with_name("hawatch"))
        words = [program, "run", "-c", str(config), "--node", "lvs1"]
        folders = ["--runtime-dir", f"{site.folder}/run", "--state-dir", f"{site.folder}/state"]
        site.director.start([*words, *folders], site.folder / "agent.log")
        before = wait(
            site.director, lambda found: all(("ipvs_server_connections_total", name, "http") in found for name in names)
        )
        assert before["ipvs_service_connections_total", "http"] == 0
        for _ in range(REQUESTS):
            call_in_namespace(site.clients[0].namespace, lambda: client.ask_http(VIP))
        after = wait(site.director, lambda found: found.get(("ipvs_service_connections_total", "http"), 0) == REQUESTS)
        for name in names:
            assert after["server_up", name, "http"] == 1
            assert after["ipvs_server_connections_total", name, "http"] == REQUESTS / 2
            assert after["ipvs_server_incoming_bytes_total", name, "http"] > 60 * REQUESTS / 2
            assert after["ipvs_server_outgoing_packets_total", name, "http"] >= 4 * REQUESTS / 2
        for name in ("incoming_bytes", "outgoing_bytes", "incoming_packets", "outgoing_packets"):
            parts = [after[f"ipvs_server_{name}_total", each, "http"] for each in names]
            assert after[f"ipvs_service_{name}_total", "http"] == sum(parts)
        rates = wait(site.director, lambda found: found.get(("ipvs_service_incoming_bytes_per_second", "http"), 0) >= 0)
        print({key: value for key, value in rates.items() if key[0].startswith("ipvs_service")})
