"""The metrics by name: type, labels and meaning of each. What is not named here is not exported.

Names follow Prometheus's conventions: base units, `_total` for what only counts up. Labels are names of the
configuration or of a few fixed words, never reasons, process ids or clients, so that the number of series is known from
the configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """A metric's type."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Spec:
    """One metric."""

    name: str
    """As it is read: of a counter with `_total`."""
    kind: Kind
    labels: tuple[str, ...]
    help: str


PREFIX = "hawatch_"
SERVICE, SERVER, CHECK = "service", "service server", "check probe target"
LINK = "peer address"
_TEXT = f"""
gauge build_info | version | 1; the version of the console
gauge node_info | cluster node | 1; the names of cluster and node
gauge core_up | | 1: the core answered; if not, everything of it and of the probers is missing
gauge start_time_seconds | | When the agent was started, in seconds since 1970
gauge warnings | | Warnings that status shows

gauge service_up | {SERVICE} | 1: some server serves
gauge service_info | {SERVICE} group | 1; the group that the service belongs to
gauge service_servers | {SERVICE} | Servers of the service, without the sorry server
gauge service_servers_up | {SERVICE} | Servers that are up and take new connections
gauge server_up | {SERVER} | 1: up, and takes new connections; missing until it has been probed
gauge server_drained | {SERVER} | 1: an administrator drained it
gauge server_disabled | {SERVER} | 1: an administrator disabled it
gauge server_weight | {SERVER} | Weight in IPVS; 0 also when it is not in the table
gauge server_weight_configured | {SERVER} | Weight in the configuration
gauge server_latency_seconds | {SERVER} | Latency of the last good probe, the longest where there are several

gauge probe_info | {CHECK} {SERVER} | 1; the servers that a check decides on
gauge probe_up | {CHECK} | 1: the check's verdict is up; missing until there is one
counter probe_runs_total | {CHECK} | Runs of the check
counter probe_failures_total | {CHECK} | Runs that failed, though the verdict may have stayed up
histogram probe_latency_seconds | service probe | Latency of the runs that succeeded, of all servers of the service
histogram check_latency_seconds | {CHECK} | The same of each check, if metrics_detail is check

gauge ipvs_read_timestamp_seconds | | When the kernel's table was last read; all ipvs numbers are of then
gauge ipvs_read_duration_seconds | | How long that took
gauge ipvs_refused_services | | Services of which the kernel refuses a change now
counter ipvs_service_connections_total | {SERVICE} | Connections, counted by the kernel
counter ipvs_service_incoming_packets_total | {SERVICE} | Packets from clients
counter ipvs_service_outgoing_packets_total | {SERVICE} | Packets to clients; 0 where servers answer directly
counter ipvs_service_incoming_bytes_total | {SERVICE} | Bytes from clients
counter ipvs_service_outgoing_bytes_total | {SERVICE} | Bytes to clients; 0 where servers answer directly
gauge ipvs_service_connections_per_second | {SERVICE} | Rate of connections, the kernel's running mean
gauge ipvs_service_incoming_packets_per_second | {SERVICE} | Rate of packets from clients
gauge ipvs_service_outgoing_packets_per_second | {SERVICE} | Rate of packets to clients
gauge ipvs_service_incoming_bytes_per_second | {SERVICE} | Rate of bytes from clients
gauge ipvs_service_outgoing_bytes_per_second | {SERVICE} | Rate of bytes to clients
gauge ipvs_server_active_connections | {SERVER} | Connections that are established
gauge ipvs_server_inactive_connections | {SERVER} | Connections in any other state
gauge ipvs_server_persistent_connections | {SERVER} | Persistence entries
counter ipvs_server_connections_total | {SERVER} | Connections since the server was put into the table
counter ipvs_server_incoming_packets_total | {SERVER} | Packets from clients
counter ipvs_server_outgoing_packets_total | {SERVER} | Packets to clients; 0 where servers answer directly
counter ipvs_server_incoming_bytes_total | {SERVER} | Bytes from clients
counter ipvs_server_outgoing_bytes_total | {SERVER} | Bytes to clients; 0 where servers answer directly
gauge ipvs_server_connections_per_second | {SERVER} | Rate of connections, the kernel's running mean
gauge ipvs_server_incoming_packets_per_second | {SERVER} | Rate of packets from clients
gauge ipvs_server_outgoing_packets_per_second | {SERVER} | Rate of packets to clients
gauge ipvs_server_incoming_bytes_per_second | {SERVER} | Rate of bytes from clients
gauge ipvs_server_outgoing_bytes_per_second | {SERVER} | Rate of bytes to clients

gauge group_owner | group | 1: this director owns the group
gauge group_state | group state | 1 for the state that the group is in here, 0 for the others
gauge group_owned_seconds | group | How long this director has owned the group; missing when it does not or has no lease
gauge group_epoch | group | Number of the ownership as this director knows it; it rises with each change of owner
gauge lease_remaining_seconds | group | Time left of the lease that this director holds; missing when it holds none
gauge lease_duration_seconds | | Length of a lease; missing on a single director
counter lease_acquisitions_total | group | Leases won
counter lease_renewals_total | group | Renewals
counter lease_renewal_failures_total | group | Renewals that failed
counter lease_refusals_total | group acceptor reason | Refusals; reason is held, silent or too_long
gauge quorum_held | | 1: enough nodes answer to own a group
gauge quorum_acceptors | | Nodes that grant leases
gauge quorum_reachable | | Nodes that answer now, this one included
gauge peer_up | peer role | 1: the other director or the witness is heard
gauge peer_silence_seconds | peer role | Since when nothing was heard of it
gauge link_up | {LINK} | 1: heartbeats come over the link
counter link_heartbeats_received_total | {LINK} | Heartbeats that came
counter link_heartbeats_lost_total | {LINK} | Heartbeats missing between those that came
gauge link_round_trip_seconds | {LINK} | From the last question to its answer on this link
counter datagrams_rejected_total | reason | Datagrams that were not believed; duplicates of other links, too

gauge worker_running | worker | 1: the process runs
counter worker_restarts_total | worker | Restarts of the process
gauge worker_lateness_seconds | worker | Latest start of a check in the last minute
gauge worker_checks_in_flight | worker | Checks under way
counter worker_late_checks_total | worker | Checks that began 100 ms late or more
counter worker_skipped_checks_total | worker | Checks left out, for the one before had not ended or the process was late
counter worker_discarded_results_total | worker | Failures not counted, for they tell of this machine
counter process_cpu_seconds_total | worker | CPU time, user and system
gauge process_resident_memory_bytes | worker | Memory, with what the processes share counted in each
histogram core_lag_seconds | | How late the core's loop was, measured once a second and at each heartbeat

counter events_total | name | Events that this console has taken in
gauge events_waiting | | Events that wait to be written to the journal
gauge journal_size_bytes | | Size of the journal's files
gauge journal_on_disk | | 1: the journal is written to disk; 0: it is kept in memory only
gauge journal_last_commit_timestamp_seconds | | When the journal was last written, in seconds since 1970
counter alerts_sent_total | alert | Messages sent
counter alert_attempts_failed_total | alert | Attempts to send that failed
gauge alerts_waiting | alert | Messages that wait to be sent
gauge alerts_oldest_waiting_timestamp_seconds | alert | When the oldest that waits was made; missing when none waits
counter console_scrapes_total | | Texts made for /metrics; who asks again within a second gets the same
gauge console_gather_seconds | | How long the numbers of the last one took to come from the core
"""


def _parse(text: str) -> dict[str, Spec]:
    specs = {}
    for line in filter(None, text.splitlines()):
        kind_and_name, labels, meaning = (part.strip() for part in line.split("|"))
        kind, name = kind_and_name.split()
        spec = Spec(PREFIX + name, Kind(kind), tuple(labels.split()), meaning)
        assert name.endswith("_total") == (spec.kind is Kind.COUNTER), name
        assert name not in specs, name
        specs[name] = spec
    return specs


CATALOGUE: dict[str, Spec] = _parse(_TEXT)
"""By name without the prefix."""
