"""The name of every event. docs/reference/events.md says when each happens."""

from __future__ import annotations

EVENT_NAMES = (
    "acknowledged", "addresses_differ", "agent_started", "agent_stopped", "alert_failed", "asked",
    "clock_may_stop", "config_rejected", "config_reloaded", "director_alive", "director_dead",
    "director_removed", "gate_failed", "gate_restored", "giveaway", "heartbeat_noise", "ipvs_drift",
    "ipvs_refused", "ipvs_unreadable", "journal_broken", "journal_mended", "lease_failed", "lease_late",
    "lease_lost", "link_down", "link_removed", "link_up", "members_changed", "name_conflict", "probe_hindered",
    "quorum_lost", "quorum_regained", "release", "resume", "server_disabled", "server_down", "server_drained",
    "server_enabled", "server_removed", "server_standby", "server_undrained", "server_up", "service_down",
    "service_removed", "service_standby", "service_up", "state_broken", "switchover", "sync_failed", "takeover",
    "vip_conflict", "vip_failed", "vip_restored", "witness_alive", "witness_dead", "witness_removed",
    "worker_lost", "worker_removed", "worker_restarted",
)  # fmt: skip
