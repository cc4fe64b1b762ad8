"""keepalived as the agent of the pair: VRRP version 3, unicast, adverts every 0.3 s (or another interval)."""

from __future__ import annotations

from collections.abc import Sequence

from tests.lab.pair.director import Director
from tests.lab.pair.namespaces import Node
from tests.lab.pair.shell import LabError
from tests.lab.pair.site import VIP, Site

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
}}
"""
PRIORITIES = {"lvs1": 150, "lvs2": 100}
OWN = {"lvs1": "10.99.0.1", "lvs2": "10.99.0.2"}
PEER = {"lvs1": "lvs2", "lvs2": "lvs1"}


class Keepalived:
    """Runs keepalived with files of its own, so that several run on one machine."""

    name = "keepalived"
    lacks = frozenset({"switchover", "rules flushed", "witness cut off", "core killed 10 times"})

    def __init__(self, advert_s: float = 0.3) -> None:
        self.advert_s = advert_s

    def prepare(self, _pair: Site) -> None:
        """Do nothing: keepalived has no witness."""

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
        )
        (home / "keepalived.conf").write_text(text, encoding="ascii")
        return [
            *("keepalived", "--dont-fork", "--log-console", "--vrrp"),
            *("--use-file", str(home / "keepalived.conf"), "--pid", str(home / "keepalived.pid")),
            *("--vrrp_pid", str(home / "vrrp.pid")),
        ]

    def switchover(self, owner: Director, successor: Director) -> None:
        """Refuse: keepalived has no such command."""
        raise LabError("keepalived has no command for it; a clean stop is the nearest")
