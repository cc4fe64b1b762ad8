"""A running pair moves from keepalived to hawatch as the manual says: one owner throughout."""

from __future__ import annotations

import time

import pytest

from tests.lab.pair.arp import answers, read_seen
from tests.lab.pair.hawatch import Hawatch
from tests.lab.pair.keepalived import Keepalived
from tests.lab.pair.machine import Machine
from tests.lab.pair.measure import two_owners
from tests.lab.pair.scene import start_tool
from tests.lab.pair.shell import now_ns, wait_until
from tests.lab.pair.site import VIP, VIP6, mac_of, site

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(120)]
LIMIT_S = 20.0
ASK_EVERY_MS = 20
LAST_NS = 500_000_000


def test_a_running_pair_moves_from_keepalived() -> None:
    old, new = Keepalived(), Hawatch("fast")
    with site(directors=("lvs1", "lvs2"), servers=False, witness=True) as pair:
        assert pair.witness is not None
        first, second = (Machine(node, old) for node in pair.directors)
        for machine in (first, second):
            machine.start()
        wait_until(lambda: first.has(VIP), "keepalived owns", limit_s=LIMIT_S)
        client = pair.node("c1")
        asker = start_tool(client, "arp", str(client.scratch / "arp.tsv"), str(ASK_EVERY_MS), VIP, VIP6)
        start = now_ns()

        second.stop()
        former, successor, witness = first, Machine(second.node, new), Machine(pair.witness, new)
        successor.start()
        wait_until(lambda: new.ready(successor), "the standby's agent works", limit_s=LIMIT_S)
        new.ctl(successor.node, "giveaway")
        witness.start()
        wait_until(lambda: "witness held" in new.ctl(successor.node, "status"), "the witness answers", limit_s=LIMIT_S)
        time.sleep(2 * new.takeover_ms / 1000 + new.settle_s)
        assert "this director was given away" in new.ctl(successor.node, "status")
        assert former.has(VIP)
        assert not successor.has(VIP)

        former.stop()
        new.ctl(successor.node, "resume")
        wait_until(lambda: successor.has(VIP), "the standby owns", limit_s=LIMIT_S)
        second_life = Machine(former.node, new)
        second_life.start()
        wait_until(lambda: new.ready(second_life), "the former owner's agent works", limit_s=LIMIT_S)
        time.sleep(2 * new.takeover_ms / 1000 + new.settle_s)
        end = now_ns()
        asker.terminate()
        asker.wait(LIMIT_S)

        seen = read_seen(client.scratch / "arp.tsv")
        assert two_owners(seen, start, end) == 0
        assert set(answers(seen, end - LAST_NS, end)) == {mac_of("lvs2")}
        status = new.status(second_life)
        assert status["groups"][0]["owner"] == "lvs2"
