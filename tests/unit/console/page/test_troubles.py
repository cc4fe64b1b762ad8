"""What is wrong now: the words, the order, and what can be done."""

from __future__ import annotations

import pytest

from hawatch.console.page.deeds import consequences
from hawatch.console.page.troubles import SERVERS_MAX, TROUBLES_MAX, troubles
from hawatch.control.view import Tone
from tests.unit.console.page.sample import server, service, view

DOWN = {"state": "down", "reason": "HTTP 503, wanted 200"}
LOST = {"mode": "witness", "held": False, "acceptors": 3, "reachable": 1, "reason": "1 of 3 nodes answers"}


def group(**more):
    return {"name": "web", "state": "owner", "owner": "lvs1", "addresses": ["192.0.2.110/32"], "reason": "why", **more}


def test_a_good_day():
    assert troubles(view()) == ()


@pytest.mark.parametrize(
    ("more", "tone", "what", "advice", "deed"),
    [
        ({"quorum": LOST}, Tone.BAD, "No quorum", "nobody can take over", None),
        ({"groups": [group(state="conflict")]}, Tone.BAD, "Group web: conflict", "arp_ignore", None),
        ({"groups": [group(state="candidate", owner="")]}, Tone.BAD, "Group web: nobody owns it",
         "within seconds", None),
        ({"groups": [group(state="standby", owner="")], "quorum": LOST}, Tone.BAD, "Group web: nobody owns it",
         "hawatch ctl takeover --force --group web", None),
        ({"groups": [group(state="released", owner="lvs2")]}, Tone.WARN, "Group web: given away", "lvs1 takes part",
         "resume"),
        ({"groups": [group(state="released", owner="")]}, Tone.BAD, "Group web: given away", "lvs1 takes part",
         "resume"),
        ({"services": [service(server(**DOWN))]}, Tone.BAD, "Service http: no server up", "reasons", "ack http"),
        ({"services": [service(server(), server("192.0.2.2", **DOWN))]}, Tone.WARN,
         "Server 192.0.2.2:80 of http: down", "comes back by itself", "ack http 192.0.2.2:80"),
        ({"services": [service(server(), server("192.0.2.9", **DOWN, sorry=True))]}, Tone.WARN,
         "Sorry server 192.0.2.9:80 of http: down", "comes back", None),
        ({"directors": [{"name": "lvs2", "state": "dead"}]}, Tone.WARN, "Director lvs2: dead",
         "Nobody can take over", None),
        ({"witnesses": [{"name": "rs1", "state": "dead"}]}, Tone.WARN, "Witness rs1: dead", "hawatch-witness", None),
        ({"directors": [{"name": "lvs2", "state": "alive", "links": [{"address": "fd00::2", "state": "down"}]}]},
         Tone.WARN, "Link fd00::2 to lvs2: down", "cable", None),
        ({"workers": [{"name": "prober", "state": "lost", "reason": "it ended with status 1"}]}, Tone.WARN,
         "Process prober: lost", "journalctl", None),
        ({"warnings": ["the disk is full"]}, Tone.WARN, "the disk is full", "", None),
        ({"services": [service(server(), server("192.0.2.2", "draining"))]}, Tone.IDLE,
         "Server 192.0.2.2:80 of http: drained", "", "undrain http 192.0.2.2:80"),
        ({"services": [service(server(), server("192.0.2.2", "disabled"))]}, Tone.IDLE,
         "Server 192.0.2.2:80 of http: disabled", "", "enable http 192.0.2.2:80"),
    ],
)  # fmt: skip
def test_each(more, tone, what, advice, deed):
    made = view(**more)
    found = next(trouble for trouble in troubles(made) if trouble.what == what)
    assert found.tone is tone
    assert advice in found.advice
    assert (found.deed and found.deed.words) == deed
    if found.deed:
        assert consequences(found.deed, made)


def test_the_worst_comes_first():
    found = troubles(
        view(quorum=LOST, warnings=["w"], services=[service(server(), server("192.0.2.2", "disabled")),
                                                    service(server(**DOWN), name="mail")])
    )  # fmt: skip
    assert [trouble.tone for trouble in found] == [Tone.BAD, Tone.BAD, Tone.WARN, Tone.IDLE]


def test_a_machine_of_several_services_is_told_once():
    down = server("192.0.2.9", state="down", reason="no answer in 1 s")
    found = troubles(view(services=[service(server(), down, name=f"s{number}") for number in range(5)]))
    assert [trouble.what for trouble in found] == ["Server 192.0.2.9 of s0, s1, s2 and 2 more: down"]
    assert found[0].deed is None


def test_much_is_counted():
    down = [server(f"192.0.2.{number + 2}", **DOWN) for number in range(100)]
    found = troubles(view(services=[service(server(), *down)]))
    assert len(found) == SERVERS_MAX + 1
    assert found[-1].what == "95 more servers down"
    found = troubles(view(warnings=[f"w{number}" for number in range(100)]))
    assert len(found) == TROUBLES_MAX + 1
    assert found[-1].what == "and 70 more"
    aside = [server(f"192.0.2.{number + 2}", "disabled") for number in range(20)]
    assert (
        troubles(view(services=[service(server(), *aside)]))[-1].advice
        == "hawatch ctl enable all all ends it for every one."
    )
