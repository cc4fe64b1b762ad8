"""keepalived as the agent of the pair: VRRP version 3, unicast, adverts every 0.3 s (or another interval)."""

from __future__ import annotations

from collections.abc import Sequence

from tests.lab.pair.machine import Machine
from tests.lab.pair.namespaces import Node
from tests.lab.pair.site import VIP, VIP6

CONFIGURATION = """
global_defs {{
    vrrp_version 3
    router_id {name}
    dynamic_interfaces
    vrrp_garp_master_repeat 5
}}
vrrp_instance web {{
    state BACKUP
    interface eth1
    virtual_router_id 51
    priority {priority}
    advert_int {advert_s}
    unicast_src_ip {own}
    unicast_peer {{
        {peer}
    }}
    virtual_ipaddress {{
        {vip}/32 dev eth0
    }}
    virtual_ipaddress_excluded {{
        {vip6}/128 dev eth0
    }}
}}
"""
PRIORITIES = {"lvs1": 150, "lvs2": 100}
OWN = {"lvs1": "10.99.0.1", "lvs2": "10.99.0.2"}
PEER = {"lvs1": "lvs2", "lvs2": "lvs1"}


class Keepalived:
    """Runs keepalived with files of its own, so that several run on one machine."""

    witness = False

    def __init__(self, advert_s: float = 0.3) -> None:
        self.advert_s = advert_s
        self.name = f"keepalived {advert_s:g} s"
        self.takeover_ms = 4000 * advert_s  # three adverts and the skew
        self.settle_s = 4 * advert_s + 0.5

    def ready(self, machine: Machine) -> bool:
        """Tell whether it runs."""
        return machine.runs

    def well(self, directors: Sequence[Machine]) -> bool:
        """Tell whether exactly one has the VIP; keepalived gives it back to the one of higher priority."""
        return [one.has(VIP) for one in directors] == [True, False]

    def argv(self, node: Node) -> Sequence[str]:
        """Write the configuration and return the command line."""
        home = node.scratch
        text = CONFIGURATION.format(
            name=node.name,
            priority=PRIORITIES[node.name],
            advert_s=self.advert_s,
            own=OWN[node.name],
            peer=OWN[PEER[node.name]],
            vip=VIP,
            vip6=VIP6,
        )
        (home / "keepalived.conf").write_text(text, encoding="ascii")
        return [
            *("keepalived", "--dont-fork", "--log-console", "--vrrp"),
            *("--use-file", str(home / "keepalived.conf"), "--pid", str(home / "keepalived.pid")),
            *("--vrrp_pid", str(home / "vrrp.pid")),
        ]
