"""A keeper with children that only say what they are told, run as a process of its own by the keeper's tests."""

from __future__ import annotations

import gc
import os
import select
import socket
import sys
from pathlib import Path

from hawatch.agent.keeper import Keeper, Mains
from hawatch.agent.link import receive_leash, send_leash
from hawatch.agent.messages import Adopt, AreYouThere, IAmHere, Stop, WantLink
from hawatch.agent.places import Places
from hawatch.agent.settings import Settings, settings_to_file
from hawatch.config.schema import Config
from hawatch.model import Check, Plan


def check(check_type: str, *, plugin: bool = False) -> Check:
    return Check(check_type, check_type, {}, "192.0.2.1", 80, 10**9, 10**9, 1, 1, plugin=plugin)


def settings(*checks: Check, node: str = "lvs1") -> Settings:
    plan = Plan((), {each.id: each for each in checks})
    return Settings(Config(), plan, node, "", Places(Path("/none"), Path("/none"), Path("/none")))


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def speak(leash: socket.socket, name: str) -> None:
    """Say what comes over the leash, and answer; do what standard input says when it is the core."""
    say(name, "born", os.getpid())
    sources: list[int] = [leash.fileno()] + ([0] if name.startswith("core") else [])
    while True:
        for source in select.select(sources, [], [])[0]:
            if source == 0:
                order(leash, os.read(0, 1).decode())
                continue
            received = receive_leash(leash)
            if received is None:
                return
            message, descriptor = received
            if isinstance(message, AreYouThere):
                send_leash(leash, IAmHere(message.number))
                continue
            say(name, "got", type(message).__name__, getattr(message, "worker", ""), getattr(message, "restarts", ""))
            if descriptor is not None and name.startswith("core"):
                os.write(descriptor, name.encode())
                os.close(descriptor)
            elif descriptor is not None:
                heard(name, descriptor)
            if isinstance(message, Stop):
                return


def heard(name: str, descriptor: int) -> None:
    """Say what the core wrote into the work channel."""
    with socket.socket(fileno=descriptor) as channel:
        say(name, "heard", channel.recv(100).decode())


def want(leash: socket.socket) -> None:
    send_leash(leash, WantLink("prober"))


def order(leash: socket.socket, letter: str) -> None:
    adopted = {
        "p": settings(check("http"), check("outside", plugin=True), node="lvs2"),
        "n": settings(check("http"), node="lvs3"),
        "r": settings(check("ping"), node="lvs4"),
    }
    if letter == "w":
        want(leash)
    if letter == "g":
        say("gc", "on" if gc.isenabled() else "off", gc.get_freeze_count(), len(gc.get_objects()))
    if letter in adopted:
        descriptor = settings_to_file(adopted[letter])
        send_leash(leash, Adopt(), descriptor)
        os.close(descriptor)


def core(now: Settings, leash: socket.socket, _listener: socket.socket) -> None:
    speak(leash, f"core@{now.node}")


def main() -> int:
    with socket.socket(socket.AF_UNIX) as listener:
        return Keeper(settings(check("http")), Mains(core, speak), listener).run()


if __name__ == "__main__":
    sys.exit(main())
