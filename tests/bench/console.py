"""What befalls the console, at length: `python -m tests.bench.console [kill] [stop] [mail] [switch]`, each by default.

100 kills under 200 events a second; a stop of 60 s under load; a mail server that is down, answers 451 and hangs after
DATA, 60 s each; a thousand servers behind one switch with the digest of 60 s.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.unit.console import storms
from tests.unit.console.console_site import Site
from tests.unit.console.mailer import Mailer, mailer

KILLS = 100
STOP_S = 60.0
TROUBLE_S = 60.0
DIGEST_S = 60.0
BACKOFF_S = 10
MAIL_LIMIT_S = 60.0


def kill(directory: Path, postfix: Mailer) -> None:
    """Kill it again and again."""
    site = Site(directory, postfix, 'events = ["server_disabled"]', "burst = 20", 'digest = "1s"', tls="none")
    try:
        found = storms.kill(site, postfix, KILLS)
    finally:
        site.stop()
    print(f"  {found.kills} kills in {found.seconds:.0f} s under {found.events / found.seconds:.0f} events a second")
    print(f"  journal: {found.events} events, none missing, none twice, in order")
    print(f"  alerts: {found.letters}, each came; {found.mails} mails; {found.marked} marked as possibly twice")


def stop(directory: Path, postfix: Mailer) -> None:
    """Stop it for a minute."""
    site = Site(directory, postfix, servers=12)
    try:
        found = storms.stop(site, STOP_S)
    finally:
        site.stop()
    print(f"  stopped for {found.seconds:.0f} s, {found.during.events / found.seconds:.0f} events a second meanwhile")
    for name, one in (("before", found.before), ("meanwhile", found.during)):
        median, worst = one.flaps_s[len(one.flaps_s) // 2] * 1e3, one.flaps_s[-1] * 1e3
        print(
            f"  {name:<9}  a server down and up again: median {median:.0f} ms, worst {worst:.0f} ms of"
            f" {len(one.flaps_s)}; checks late by at most {one.late_ms:.0f} ms, the core's loop by {one.lag_ms:.0f} ms"
        )
    print(f"  all events in the journal {found.catch_up_s:.2f} s after it went on")


def mail(directory: Path, postfix: Mailer) -> None:
    """Have the mail server misbehave. With the back-off that everybody has no attempt would fall into the last minute."""
    os.environ["HAWATCH_TEST_BACKOFF_S"] = str(BACKOFF_S)
    site = Site(directory, postfix, "burst = 100", servers=6)
    try:
        found = storms.mail_troubles(site, postfix, TROUBLE_S, MAIL_LIMIT_S)
    finally:
        site.stop()
    print(
        f"  {found['mails']:.0f} messages, each came once, in order; {found['marked']:.0f} marked, at most"
        f" {found['attempts']:.0f} failed attempts; the last {found['well_to_last_s']:.1f} s after the server was well"
    )


def switch(directory: Path, postfix: Mailer) -> None:
    """Have a switch die."""
    site = Site(directory, postfix)
    try:
        found = storms.switch_dies(site, postfix, f"{DIGEST_S:.0f}s", DIGEST_S + 10)
    finally:
        site.stop()
    print(
        f"  {found.events} events in {found.spread_s:.2f} s: {found.mails} mails, console {found.peak_mb:.0f} MB at most"
    )
    for subject in found.subjects:
        print(f"    {subject}")


SCENES: dict[str, tuple[str, Callable[[Path, Mailer], None]]] = {
    "kill": (f"{KILLS} kills", kill),
    "stop": (f"a stop of {STOP_S:.0f} s", stop),
    "mail": (f"Postfix down, 451, hanging after DATA, {TROUBLE_S:.0f} s each", mail),
    "switch": ("a dead switch", switch),
}


def main() -> None:
    """Run the scenes that are named, or all."""
    with mailer() as postfix:
        for name in sys.argv[1:] or SCENES:
            title, scene = SCENES[name]
            print(f"{title}:", flush=True)
            postfix.be_well()
            postfix.empty()
            began = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="hawatch-bench-") as directory:
                scene(Path(directory), postfix)
            print(f"  ({time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
