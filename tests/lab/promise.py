"""What is promised to users and to checks of theirs: names, and shapes of what programs read. Copied, not imported.

Nothing here is taken from the code that it describes: a name that changes there must fail here.
"""

from __future__ import annotations

import json
import re
from typing import Any

EXAMPLE = """\
[cluster]
name = "epn"
key_file = "/etc/hawatch/cluster.key"   # numbered keys, one active; mode 0600 or refused
port = 694
profile = "default"                      # fast | default | vm; or both of:
# lease = "1.5s"                         # how long ownership outlives its last renewal
# heartbeat = "300ms"                    # renewal period, at most a quarter of the lease
quorum = "witness"                       # witness | gateway | none
gateway = ["192.168.1.254"]              # asked by ping; for quorum = "gateway" and for the score

[[director]]
name = "lvs1"
links = ["10.99.0.1", "192.168.1.5"]     # its addresses, one a heartbeat path, in the same order on every node

[[director]]
name = "lvs2"
links = ["10.99.0.2", "192.168.1.6"]

[[witness]]
name = "rs1"
links = ["10.99.0.3", "192.168.1.1"]

[[group]]                                # VIPs that move together
name = "web"
prefer = "lvs1"
failback = "auto"                        # auto | manual
addresses = [{ address = "192.168.1.110/32", interface = "eth0" }]
sync = { interface = "eth1", id = 51 }   # IPVS connection synchronisation
ipvs = "always"                          # always: both directors keep the table; owner: only the owner
                                         # (for directors that are real servers too)

[[service]]
name = "http"
group = "web"
address = "192.168.1.110"                # one of the group's; or fwmark = 7
port = 80
protocol = "tcp"                         # tcp | udp | sctp
scheduler = "wlc"
forward = "direct"                       # direct | tunnel | masquerade; a server may override
persistence = "5m"
on_fail = "remove"                       # remove | quiesce
sorry_server = "192.168.1.99:80"
on_all_down = "sorry"                    # sorry | keep_last | keep_all | empty; default: sorry with a sorry
                                         # server, else keep_last; always with a critical event
probe = { type = "http", path = "/health", status = [200], body = "ok", host = "www.example.org",
          interval = "2s", timeout = "1s", rise = 2, fall = 3 }

[[service.server]]
address = "192.168.1.1"                  # port defaults to the service's
weight = 1

[alert.email.ops]                        # any number, any name
to = ["ops@example.org"]
from = "hawatch@example.org"
server = "mail.example.org:587"
tls = "starttls"                         # none | starttls | tls
username = "..."
password_file = "..."

[alert.webhook.chat]
url = "https://..."
"""

STATUS: dict[str, Any] = json.loads("""
{"cluster": "epn", "node": "lvs1", "version": "0.1.0",
 "quorum": {"mode": "witness", "held": true, "acceptors": 3, "reachable": 3},
 "directors": [{"name": "lvs2", "state": "alive", "links": [{"address": "10.99.0.2", "state": "up"}]}],
 "groups": [{"name": "web", "state": "owner", "owner": "lvs1", "epoch": 4, "gate": "nftables",
             "addresses": ["192.168.1.110/32"]}],
 "services": [{"name": "http", "address": "192.168.1.110", "port": 80, "protocol": "tcp",
   "servers": [{"address": "192.168.1.1", "port": 80, "state": "up", "weight": 1, "reason": "",
                "since": "2026-01-01T00:00:00Z", "latency_ms": 0.8}]}],
 "workers": [{"name": "prober", "state": "running", "pid": 4711, "restarts": 0}]}
""")

STATES = {
    "directors": {"alive", "late", "dead", "unknown"},
    "groups": {"owner", "standby", "candidate", "released", "conflict"},
    "servers": {"up", "down", "draining", "disabled", "unknown"},
}
SINCE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
EVENTS = set(
    [
        "server_up",
        "server_down",
        "service_down",
        "service_up",
        "takeover",
        "release",
        "switchover",
        "giveaway",
        "resume",
        "director_dead",
        "director_alive",
        "link_down",
        "link_up",
        "quorum_lost",
        "quorum_regained",
        "vip_conflict",
        "lease_late",
        "worker_lost",
        "worker_restarted",
        "config_reloaded",
        "config_rejected",
        "alert_failed",
    ]
)
EVENT = {"time": "2026-01-01T00:00:00.123Z", "name": "takeover", "node": "lvs1", "reason": "why", "numbers": {}}
"""Every event has the first four; `numbers` where there are any, and what it is about: group, service, server."""
ABOUT = {
    "server_up": {"service", "server"}, "server_down": {"service", "server"},
    "service_up": {"service"}, "service_down": {"service"},
    "takeover": {"group"}, "release": {"group"}, "switchover": {"group"}, "vip_conflict": {"group"},
}  # fmt: skip
DONE, REFUSED, USAGE, UNAVAILABLE = 0, 1, 2, 3


def differences(found: object, promised: object, path: str = "$") -> list[str]:
    """Return where `found` lacks something of what is promised, or has it of another type.

    More keys are welcome; an array's elements are each as the promised one's first; a number may be absent (null) only
    where a latency was never measured.
    """
    if isinstance(promised, dict):
        if not isinstance(found, dict):
            return [f"{path}: no object: {found!r}"]
        return [line for key, value in promised.items()
                for line in ([f"{path}.{key}: missing"] if key not in found
                             else differences(found[key], value, f"{path}.{key}"))]  # fmt: skip
    if isinstance(promised, list):
        if not isinstance(found, list):
            return [f"{path}: no array: {found!r}"]
        return [
            line for number, each in enumerate(found) for line in differences(each, promised[0], f"{path}[{number}]")
        ]
    if path.endswith(".latency_ms") and found is None:
        return []
    wanted = (int, float) if isinstance(promised, float) else (type(promised),)
    if not isinstance(found, wanted) or (isinstance(found, bool) and not isinstance(promised, bool)):
        return [f"{path}: {found!r}, promised is something like {promised!r}"]
    return []


def wrong_states(status: dict[str, Any]) -> list[str]:
    """Return states and times of a status that are not among the promised ones."""
    rows = [(kind, row) for kind in ("directors", "groups") for row in status[kind]]
    servers = [server for service in status["services"] for server in service["servers"]]
    rows += [("servers", server) for server in servers]
    wrong = [f"{kind}: {row['state']!r}" for kind, row in rows if row["state"] not in STATES[kind]]
    return wrong + [f"since: {row['since']!r}" for row in servers if not SINCE.fullmatch(row["since"])]


def wrong_event(event: dict[str, Any]) -> list[str]:
    """Return what an event of a promised name lacks."""
    shape = {key: value for key, value in EVENT.items() if key != "numbers" or "numbers" in event}
    lacks = sorted(ABOUT.get(event.get("name", ""), set()) - event.keys())
    return differences(event, shape, str(event.get("name"))) + [f"{event.get('name')}: no {key}" for key in lacks]
