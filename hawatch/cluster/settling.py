"""How a changed configuration comes into effect, node by node, without two owners on the way.

Theory of operation. Nodes are restarted with a new configuration one after the other, and meanwhile some have the old
one. Two things in it are part of the promise.

The lease's length: an acceptor that is restarted with a shorter lease may have promised a longer one before. So the
longest lease is kept on disk, and the silence after the start covers that one.

The list of members: a majority of the old list and a majority of the new one need not have a node in common. So every
datagram names its sender's list, and an acceptor serves only who has the same one. And one that was started with
another list than its former process is *unsettled*: it promises nothing until it has seen every member with the new
list, or is told so by a director with that list (witnesses do not hear each other); and then for a silence more, by
which time whatever any of them promised or owned by the old list has run out. Going back to the old list is a change
like any other, once the new one has been told to others. A majority of the new list has an unsettled node in it, unless
a majority of it is new: change less than half at a time. The price is that nobody owns for about a lease.

A node at its first start has no former list: then there is nothing to wait for. Of one that has lost what its former
process kept nothing is known: its list counts as changed, and the longest lease of all as out.
"""

from __future__ import annotations

from hawatch.cluster.effects import RememberRun
from hawatch.cluster.membership import FormerRun, QuorumMode
from hawatch.cluster.site import Site


class Settling:
    """What one node has of former configurations."""

    def __init__(self, site: Site, former: FormerRun | None, now_ns: int, *, silent: bool = True) -> None:
        self.site = site
        self.former = former
        self.kept: FormerRun | None = former
        self.silence_ns = site.parameters.silence_after_ns(former.lease_ns if former else 0)
        if silent:
            site.acceptor.silent_until_ns = now_ns + self.silence_ns
        self.unchanged = former is None or (former.settled and former.members == site.members)
        site.acceptor.settled = self.unchanged or site.membership.quorum is not QuorumMode.WITNESS

    def look(self, now_ns: int) -> None:
        """Let the new list take effect when every member has it; keep what the next process must know."""
        site, acceptor = self.site, self.site.acceptor
        if not acceptor.settled and (not site.unseen() or site.told_seen()):
            acceptor.settled = True
            acceptor.silent_until_ns = now_ns + self.silence_ns
            site.emit("members_changed", "every node has the new list of members: it takes effect")
        run = self.run(now_ns)
        if run != self.kept:
            self.kept = run
            site.remember[RememberRun] = RememberRun(run)

    def run(self, now_ns: int) -> FormerRun:
        """Return what the next process must know, should this one end now."""
        site, acceptor = self.site, self.site.acceptor
        lasting = acceptor.settled and now_ns >= acceptor.silent_until_ns
        lease_ns = site.parameters.longest_lease_ns
        if self.former is not None and not lasting:
            lease_ns = max(lease_ns, self.former.lease_ns)
        return FormerRun(site.members, lease_ns, settled=self.unchanged or lasting)
