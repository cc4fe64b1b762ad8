"""Probes that the tests' configurations name, without the installed ones."""

from __future__ import annotations

from pydantic import ConfigDict

from hawatch.errors import ConfigError
from hawatch.plugin import Options, Probe


class TcpOptions(Options):
    send: str = ""
    expect: str = ""


class HttpOptions(Options):
    path: str = "/"
    status: tuple[int, ...] = (200,)
    host: str = ""
    password: str = ""


class AnyOptions(Options):
    model_config = ConfigDict(extra="allow")


class TcpProbe(Probe):
    options_type = TcpOptions


class HttpProbe(Probe):
    options_type = HttpOptions


class PingProbe(Probe):
    uses_port = False


class PerServiceProbe(Probe):
    per_service = True
    port_optional = True


class OpenProbe(Probe):
    options_type = AnyOptions


CLASSES: dict[str, type[Probe]] = {
    "tcp": TcpProbe, "http": HttpProbe, "ping": PingProbe, "outside": PerServiceProbe,
    "smtp": OpenProbe, "pop3": OpenProbe, "dns": OpenProbe,
}  # fmt: skip


class FakeProbes:
    def names(self) -> tuple[str, ...]:
        return (*CLASSES, "broken")

    def find(self, probe_type: str) -> type[Probe]:
        if probe_type not in CLASSES:
            raise ConfigError(f'the probe "{probe_type}" cannot be loaded')
        return CLASSES[probe_type]

    def is_built_in(self, probe_type: str) -> bool:
        return probe_type != "outside"


FAKES = FakeProbes()

TWO = """\
[cluster]
name = "test"
key_file = "/etc/hawatch/cluster.key"
quorum = "none"
[[director]]
name = "lvs1"
links = ["127.0.0.1"]
[[director]]
name = "lvs2"
links = ["127.0.0.2"]
"""
"""Two directors and nothing else."""

PAIR = """\
[cluster]
key_file = "/etc/hawatch/cluster.key"
[[director]]
name = "lvs1"
links = ["10.99.0.1", "192.168.1.5"]
[[director]]
name = "lvs2"
links = ["10.99.0.2", "192.168.1.6"]
[[witness]]
name = "rs1"
links = ["10.99.0.3", "192.168.1.1"]
[[group]]
name = "web"
prefer = "lvs1"
addresses = [{ address = "192.168.1.110/32", interface = "eth0" }]
"""
"""Lines 1 to 15 of a site of two directors and a witness."""

SERVICE = """\
[[service]]
name = "http"
group = "web"
address = "192.168.1.110"
port = 80
probe = { type = "tcp" }
[[service.server]]
address = "192.168.1.1"
"""

SITE = PAIR + SERVICE
