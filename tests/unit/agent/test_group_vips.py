from __future__ import annotations

from hawatch.agent.group_vips import Complaints
from hawatch.model import Event, Severity


def test_a_problem_is_told_once_until_it_is_another_one() -> None:
    events: list[Event] = []
    complaints = Complaints(events.extend)
    complaints.tell("web", "", "web")
    for problem in ("a", "a", "b", "", "b"):
        complaints.tell("web", problem, "web")
    assert [event.reason for event in events] == ["a", "b", "b"]
    assert {(event.name, event.severity, event.group) for event in events} == {("vip_failed", Severity.CRITICAL, "web")}


def test_what_stands_is_told_to_who_asks() -> None:
    complaints = Complaints(lambda events: None)
    complaints.tell("web", "no eth7")
    complaints.tell(("interface", "eth7"), "no eth7")
    assert complaints.standing() == ["no eth7"]
    assert (complaints.about("web"), complaints.about("mail")) == ("no eth7", "")
    complaints.tell("web", "")
    complaints.tell(("interface", "eth7"), "")
    assert complaints.standing() == []


def test_a_group_may_be_called_as_an_interface_is() -> None:
    complaints = Complaints(lambda events: None)
    complaints.tell("eth0", "no room", "eth0")
    complaints.tell(("interface", "eth0"), "")
    assert complaints.standing() == ["no room"]
