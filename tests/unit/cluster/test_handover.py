"""Two owners that meet: who yields, who stays and announces again."""

from __future__ import annotations

import pytest

from hawatch.cluster.effects import Announce, Tick
from hawatch.cluster.membership import GroupSettings, QuorumMode
from hawatch.cluster.site import PeerClaim
from hawatch.cluster.wire import GroupState, identifier
from tests.unit.cluster.small_site import PARAMETERS, T_NS, SmallSite

A, B = identifier("a"), identifier("b")


def met(quorum: QuorumMode, higher: int, prefer: str) -> SmallSite:
    """Return a site whose owner has just been shown a claim of b's, with an epoch that is so much higher."""
    site = SmallSite(quorum, groups=(GroupSettings("web", "a"),))
    site.run(4 * T_NS)
    assert site.owned_by("a")
    node = site.node("a")
    node.groups["web"].settings = GroupSettings("web", prefer, failback=False)
    site.places["a"].commands.clear()
    report, group = node.site.reports[B], node.groups["web"]
    report.claims[group.group] = PeerClaim(GroupState.OWNER, group.epoch + higher, site.now_ns)
    site.give(site.places["a"], site.places["a"].life, Tick())
    return site


@pytest.mark.parametrize(
    ("quorum", "higher", "prefer", "stays"),
    [
        (QuorumMode.WITNESS, 1, "a", False),
        (QuorumMode.WITNESS, 0, "a", True),
        (QuorumMode.NONE, 1, "a", False),
        (QuorumMode.NONE, 0, "a", True),
        (QuorumMode.NONE, -1, "a", True),
        (QuorumMode.NONE, 0, "b", False),
        (QuorumMode.NONE, 0, "", A > B),
        (QuorumMode.NONE, -1, "", True),
        (QuorumMode.GATEWAY, 1, "", False),
    ],
)
def test_the_lower_epoch_yields_and_next_the_one_that_is_not_preferred(
    quorum: QuorumMode, higher: int, prefer: str, stays: bool
) -> None:
    site = met(quorum, higher, prefer)
    assert (site.state("a") is GroupState.OWNER) is stays
    announces = sum(isinstance(each, Announce) for each in site.places["a"].commands)
    assert announces == (stays and quorum is not QuorumMode.WITNESS)
    assert site.event_names("a").count("vip_conflict") == announces


def test_an_owner_announces_against_another_once_a_lease() -> None:
    site = met(QuorumMode.NONE, -1, "a")
    node = site.node("a")
    group = node.groups["web"]
    for _ in range(40):
        site.now_ns += T_NS // 10
        node.site.detector.heard(B, 0, site.now_ns, site.now_ns)
        node.site.reports[B].claims[group.group] = PeerClaim(GroupState.OWNER, group.epoch - 1, site.now_ns)
        group.end_ns = site.now_ns + T_NS
        group.wake(site.now_ns)
    assert sum(isinstance(each, Announce) for each in node.site.commands) == 4


def test_a_claim_that_is_not_fresh_moves_nothing() -> None:
    site = met(QuorumMode.NONE, -1, "a")
    node = site.node("a")
    group = node.groups["web"]
    stale_ns = site.now_ns - PARAMETERS.late_ns - 1
    node.site.reports[B].claims[group.group] = PeerClaim(GroupState.OWNER, group.epoch + 1, stale_ns)
    group.wake(site.now_ns)
    assert group.state is GroupState.OWNER
