"""`make demo`: a whole site on one machine, broken in several ways, with the agent at work.

Every step says what is done, what the agent saw, what IPVS holds and what the clients got; the table at the end holds
the measured times against what is promised. The exit status is 1 if anything was not as it should be.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.lab import client
from tests.lab.daemons import Daemon, bind, dovecot, nginx, postfix, write_zone
from tests.lab.netns import call_in_namespace
from tests.lab.site import SERVERS, VIP, Site, answer_through_director, open_site
from tests.lab.watch import Watcher

INTERVAL_S, TIMEOUT_S, RISE, FALL = 1.0, 0.8, 2, 2
ALLOWANCE_S = 0.1
WAIT_S = 60.0
HTTP, SMTP, POP3, DNS = f"TCP {VIP}:80", f"TCP {VIP}:25", f"TCP {VIP}:110", f"UDP {VIP}:53"
INTRANET = f"TCP {VIP}:8080"

CONFIG = """\
[cluster]
name = "demo"

[[director]]
name = "director"

[[group]]
name = "site"
addresses = [{{ address = "{vip}/32", interface = "eth0" }}]

{services}
"""

SERVICE = """\
[[service]]
name = "{name}"
group = "site"
address = "{vip}"
port = {port}
protocol = "{protocol}"
scheduler = "rr"
forward = "{forward}"
probe = {{ {probe}, interval = "1s", timeout = "800ms", rise = 2, fall = 2 }}
server = [{servers}]
"""


@dataclass(frozen=True)
class Measure:
    """One line of the table at the end."""

    what: str
    measured_s: float
    promised_s: float

    @property
    def kept(self) -> bool:
        return self.measured_s <= self.promised_s


class Story:
    """What the demo tells and what it measures."""

    def __init__(self) -> None:
        self.measures: list[Measure] = []
        self.failures: list[str] = []
        self.colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.step_number = 0
        self.started = time.monotonic()

    def paint(self, code: str, text: str) -> str:
        """Return text in a colour, on a terminal."""
        return f"\033[{code}m{text}\033[0m" if self.colour else text

    def step(self, title: str) -> None:
        """Begin a step."""
        self.step_number += 1
        print(f"\n{self.paint('1;36', f'{self.step_number}. {title}')}", flush=True)

    def say(self, text: str) -> None:
        """Say a sentence."""
        print(f"   {text}", flush=True)

    def show(self, label: str, text: str) -> None:
        """Show what a program printed."""
        for line in text.rstrip().splitlines() or ["(nothing)"]:
            print(f"   {self.paint('2', label + ' |')} {line}", flush=True)

    def check(self, truth: object, claim: str) -> None:
        """Note a claim, and whether it is so."""
        if truth:
            self.say(self.paint("32", "ok   ") + claim)
        else:
            self.failures.append(claim)
            self.say(self.paint("1;31", "WRONG ") + claim)

    def measure(self, what: str, measured_s: float, promised_s: float) -> None:
        """Note a time against its promise."""
        self.measures.append(Measure(what, measured_s, promised_s))
        self.check(measured_s <= promised_s, f"{what}: {measured_s * 1000:.0f} ms, promised {promised_s * 1000:.0f} ms")

    def end(self) -> int:
        """Print the table; return the exit status."""
        self.step("What was measured")
        print(f"   {'':52}{'measured':>10}{'promised':>10}")
        for one in self.measures:
            mark = self.paint("32", "ok") if one.kept else self.paint("1;31", "LATE")
            print(f"   {one.what:52}{one.measured_s * 1000:7.0f} ms{one.promised_s * 1000:7.0f} ms  {mark}")
        for claim in self.failures:
            print(self.paint("1;31", f"   not as it should be: {claim}"))
        took = time.monotonic() - self.started
        print(f"\n   {len(self.failures)} failed, {took:.0f} s\n", flush=True)
        return 1 if self.failures else 0


class Agent:
    """The agent on the director, and the commands of its administrator."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.folder = site.folder / "agent"
        self.folder.mkdir()
        self.config = self.folder / "hawatch.toml"
        self.config.write_text(write_config())
        self.process: subprocess.Popen[bytes] | None = None
        self.seen = 0

    def start(self) -> None:
        """Start `hawatch run`."""
        words = ["hawatch", "run", "-c", str(self.config), "--node", "director", *self._dirs(), "--state-dir"]
        program = [sys.executable, "-m", "hawatch.cli.main", *words[1:], str(self.folder / "state")]
        self.process = self.site.director.start(program, self.folder / "agent.log")

    def stop(self) -> None:
        """Stop it as a service manager does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(WAIT_S)

    def log(self) -> str:
        """Return the end of what it printed."""
        return (self.folder / "agent.log").read_text(errors="replace")[-3000:]

    def ctl(self, *words: str) -> str:
        """Run `hawatch ctl`."""
        return self.site.director.run(sys.executable, "-m", "hawatch.cli.main", "ctl", *self._dirs(), *words)

    def events(self) -> list[dict[str, object]]:
        """Return the events since the last call, straight from the journal."""
        journal = self.folder / "state" / "events.jsonl"
        lines = journal.read_text().splitlines() if journal.exists() else []
        new, self.seen = lines[self.seen :], len(lines)
        return [json.loads(line) for line in new]

    def _dirs(self) -> list[str]:
        return ["--runtime-dir", str(self.folder / "run")]


def write_config() -> str:
    """Return the configuration of the site."""
    rows = (
        ("http", 80, "tcp", 'type = "http", path = "/health", body = "ok"', SERVERS),
        ("smtp", 25, "tcp", 'type = "smtp"', SERVERS[:2]),
        ("pop3", 110, "tcp", 'type = "pop3"', SERVERS[:2]),
        ("dns", 53, "udp", f'type = "dns", name = "www.example.org", record = "A", answers = ["{VIP}"]', SERVERS[:2]),
    )
    services = [
        SERVICE.format(
            name=name, vip=VIP, port=port, protocol=protocol, probe=probe, forward="direct",
            servers=", ".join(f'{{ address = "{address}" }}' for address in addresses),
        )
        for name, port, protocol, probe, addresses in rows
    ]  # fmt: skip
    masqueraded = ", ".join(f'{{ address = "{address}", port = 80 }}' for address in SERVERS[:2])
    services.append(
        SERVICE.format(
            name="intranet", vip=VIP, port=8080, protocol="tcp", probe=rows[0][3], forward="masquerade",
            servers=masqueraded,
        )
    )  # fmt: skip
    return CONFIG.format(vip=VIP, services="\n".join(services))


class Demo:
    """The steps."""

    def __init__(self, site: Site, story: Story) -> None:
        self.site = site
        self.story = story
        self.agent = Agent(site)
        self.watcher = Watcher(site.director.namespace)
        self.answers = site.folder / "answers.jsonl"
        servers = site.servers
        self.web = [nginx(site, server) for server in servers]
        self.mail = [postfix(site, server) for server in servers[:2]]
        self.boxes = [dovecot(site, server) for server in servers[:2]]
        self.names = [bind(site, server) for server in servers[:2]]

    def run(self) -> None:
        """Tell the whole story."""
        self.build()
        self.begin()
        self.stop_web_server()
        self.masquerade()
        self.hang_mail_server()
        self.let_dns_lie()
        self.drain()
        self.kill_prober()
        self.restart()

    # --- what is shown ---------------------------------------------------------------------------------------

    def show_events(self, *names: str) -> list[dict[str, object]]:
        """Show what the agent saw since the last time; return it."""
        events = self.agent.events()
        deadline = time.monotonic() + 5  # the kernel is told first, the journal a moment later
        while not {*names} <= {event["name"] for event in events} and time.monotonic() < deadline:
            time.sleep(0.05)
            events += self.agent.events()
        for event in events:
            about = " ".join(str(event[key]) for key in ("service", "server") if event.get(key))
            self.story.show("agent", f"{event['name']} {about}: {event['reason']}")
        for name in names:
            self.story.check(any(event["name"] == name for event in events), f"the agent told of it: {name}")
        return events

    def show_table(self) -> None:
        """Show what IPVS holds."""
        self.story.show("IPVS ", self.site.director.run("ipvsadm", "-Ln"))

    def show_clients(self, since: float, kind: str) -> list[dict[str, object]]:
        """Show what the clients got since an instant; return the failures."""
        rows = [json.loads(line) for line in self.answers.read_text().splitlines() if line.endswith("}")]
        rows = [row for row in rows if row["kind"] == kind and row["time"] >= since]
        failed = [row for row in rows if row["problem"]]
        count: dict[str, int] = {}
        for row in rows:
            count[row["server"] or "failed"] = count.get(row["server"] or "failed", 0) + 1
        told = ", ".join(f"{number} from {who}" for who, number in sorted(count.items()) if who != "failed")
        self.story.show("users", f"{kind}: {told or 'no answer'}; {len(failed)} failed")
        return failed

    def wait(self, service: str, server: str, weight: int | None, since: float) -> float:
        """Wait until IPVS has it so."""
        return self.watcher.wait_weight(service, server, weight, since, WAIT_S)

    def wait_answer(self, daemon: Daemon, wanted: str) -> float:
        """Wait until a name server gives an answer; return when it last gave another one, or gave none."""
        asker = self.site.clients[1].namespace
        before = time.monotonic()
        deadline = before + WAIT_S
        while before < deadline:
            with contextlib.suppress(OSError):
                if call_in_namespace(asker, lambda: client.ask_dns(daemon.host.address)) == wanted:
                    return before
            before = time.monotonic()
            time.sleep(0.02)
        raise TimeoutError(f"{daemon.name} on {daemon.host.name} never answered {wanted}")

    # --- steps -----------------------------------------------------------------------------------------------

    def build(self) -> None:
        """Start every daemon."""
        story = self.story
        story.step("A site: a director, three real servers, clients, all on one network")
        story.say(f"director 192.168.1.5, virtual address {VIP}, real servers {', '.join(SERVERS)}")
        daemons = [*self.web, *self.mail, *self.boxes, *self.names]
        for daemon in daemons:
            daemon.start()
        for daemon in daemons:
            daemon.wait()
        for server in self.site.servers[:2]:
            answer_through_director(server)
        story.say("running: " + ", ".join(f"{one.name} on {one.host.address}" for one in daemons))

    def begin(self) -> None:
        """Start agent and clients."""
        story = self.story
        story.step("The agent starts: no server is used before it was seen to answer")
        story.show("conf ", "\n".join(self.agent.config.read_text().split("\n\n", 2)[2].splitlines()[:13]))
        self.agent.start()
        started = time.monotonic()
        two = SERVERS[:2]
        for service, servers in ((HTTP, SERVERS), (SMTP, two), (POP3, two), (DNS, two), (INTRANET, two)):
            port = service.rsplit(":", 1)[1].replace("8080", "80")
            for server in servers:
                self.wait(service, f"{server}:{port}", 1, started)
        story.say(f"eleven destinations are in the kernel's table {time.monotonic() - started:.1f} s after the start")
        self.show_events("agent_started", "server_up")
        shown = self.site.director.run("ip", "-brief", "address", "show", "dev", "eth0")
        story.show("addr ", shown)
        story.check(f"{VIP}/32" in shown, "the agent has brought the virtual address up")
        self.show_table()
        self.site.clients[0].start(
            [sys.executable, "-m", "tests.lab.client", VIP, str(self.answers)], self.site.folder / "client.log"
        )
        begun = time.monotonic()
        time.sleep(4)
        for kind in ("http", "smtp", "pop3", "dns", "intranet"):
            story.check(not self.show_clients(begun, kind), f"every {kind} request was answered")

    def stop_web_server(self) -> None:
        """A server stops: refused connections."""
        story = self.story
        story.step("A web server stops: its port is closed")
        server = f"{SERVERS[1]}:80"
        begun = self.web[1].stop()
        took = self.wait(HTTP, server, None, begun)
        story.measure("closed port: out of IPVS", took, FALL * INTERVAL_S + ALLOWANCE_S)
        self.show_events("server_down")
        self.show_table()
        time.sleep(1)
        self.show_clients(begun, "http")
        story.check(not self.show_clients(begun + took + 0.1, "http"), "no request failed once it was out")
        begun = time.monotonic()
        self.web[1].start()
        self.web[1].wait()
        ready = time.monotonic()
        back = self.wait(HTTP, server, 1, begun) - (ready - begun)
        story.measure("web server back: in IPVS again", back, RISE * INTERVAL_S + ALLOWANCE_S)
        self.show_events("server_up")

    def masquerade(self) -> None:
        """A server that the director masquerades stops; its clients are on another port than it is."""
        story = self.story
        story.step("Masquerading: port 8080 of the virtual address is port 80 of the real servers; one of them stops")
        story.show("IPVS ", self.site.director.run("ipvsadm", "-Ln", "-t", f"{VIP}:8080"))
        server = f"{SERVERS[0]}:80"
        before = time.monotonic()
        time.sleep(2)
        story.check(not self.show_clients(before, "intranet"), "every intranet request was answered")
        story.check(self.answered_by("intranet", before) == {"server1", "server2"}, "both real servers answer")
        begun = self.web[0].stop()
        took = self.wait(INTRANET, server, None, begun)
        story.measure("masqueraded server: out of IPVS", took, FALL * INTERVAL_S + ALLOWANCE_S)
        self.show_events("server_down")
        moved = begun + took + 0.1
        time.sleep(2)
        story.check(not self.show_clients(moved, "intranet"), "no request failed once it was out")
        story.check(self.answered_by("intranet", moved) == {"server2"}, "all its clients have moved to the other one")
        begun = time.monotonic()
        self.web[0].start()
        self.web[0].wait()
        ready = time.monotonic()
        back = self.wait(INTRANET, server, 1, begun) - (ready - begun)
        story.measure("masqueraded server back: in IPVS again", back, RISE * INTERVAL_S + ALLOWANCE_S)
        self.wait(HTTP, server, 1, begun)
        self.show_events("server_up")

    def answered_by(self, kind: str, since: float) -> set[str]:
        """Return the servers that answered requests which began after an instant."""
        rows = [json.loads(line) for line in self.answers.read_text().splitlines() if line.endswith("}")]
        begun = [row for row in rows if row["kind"] == kind and row["time"] - row["ms"] / 1000 >= since]
        return {row["server"] for row in begun}

    def hang_mail_server(self) -> None:
        """A server hangs: accepts and says nothing."""
        story = self.story
        story.step("A mail server hangs: it accepts connections and says nothing (SIGSTOP)")
        server = f"{SERVERS[0]}:25"
        begun = time.monotonic()
        self.mail[0].signal(signal.SIGSTOP)
        story.say("all its processes are stopped")
        took = self.wait(SMTP, server, None, begun)
        story.measure("silent server: out of IPVS", took, FALL * INTERVAL_S + TIMEOUT_S + ALLOWANCE_S)
        events = self.show_events("server_down")
        story.check(
            any("greeting" in str(event["reason"]) for event in events), "the reason names the missing greeting"
        )
        begun = time.monotonic()
        self.mail[0].signal(signal.SIGCONT)
        back = self.wait(SMTP, server, 1, begun)
        story.measure("mail server back: in IPVS again", back, (RISE + 1) * INTERVAL_S + ALLOWANCE_S)
        self.show_events("server_up")

    def let_dns_lie(self) -> None:
        """A server answers, wrongly."""
        story = self.story
        story.step("A name server lies: it answers promptly, with a wrong address")
        liar = self.names[1]
        server = f"{SERVERS[1]}:53"
        write_zone(liar.folder, "203.0.113.66")
        liar.signal(signal.SIGHUP)
        begun = self.wait_answer(liar, "203.0.113.66")
        took = self.wait(DNS, server, None, begun)
        story.measure("lying server: out of IPVS", took, FALL * INTERVAL_S + ALLOWANCE_S)
        events = self.show_events("server_down")
        story.check(
            any("203.0.113.66" in str(event["reason"]) for event in events), "the reason names the wrong answer"
        )
        write_zone(liar.folder)
        liar.signal(signal.SIGHUP)
        begun = self.wait_answer(liar, VIP)
        story.measure("it repents: in IPVS again", self.wait(DNS, server, 1, begun), RISE * INTERVAL_S + ALLOWANCE_S)
        self.show_events("server_up")

    def drain(self) -> None:
        """An administrator takes a server out in peace."""
        story = self.story
        story.step("An administrator drains a web server: hawatch ctl drain http 192.168.1.3 --wait")
        server = f"{SERVERS[2]}:80"
        begun = time.monotonic()
        story.show("ctl  ", self.agent.ctl("drain", "http", SERVERS[2], "--wait", "--timeout", "20s"))
        self.wait(HTTP, server, 0, begun)
        drained = time.monotonic()
        self.show_table()
        time.sleep(1.5)
        rows = [json.loads(line) for line in self.answers.read_text().splitlines() if line.endswith("}")]
        # By when a request began: one that was under way may end later on a busy machine.
        late = [row for row in rows if row["time"] - row["ms"] / 1000 > drained and row["server"] == "server3"]
        story.check(not late, f"it gets no new request ({len(late)} came)")
        story.check(not self.show_clients(begun, "http"), "no request failed")
        story.show("ctl  ", self.agent.ctl("status"))
        self.agent.ctl("undrain", "http", SERVERS[2])
        self.wait(HTTP, server, 1, drained)
        self.show_events()

    def kill_prober(self) -> None:
        """The prober dies."""
        story = self.story
        story.step("The agent's prober is killed (SIGKILL): no verdict is lost, the table does not change")
        status = json.loads(self.agent.ctl("status", "--json"))
        pid = next(worker["pid"] for worker in status["workers"] if worker["name"] == "prober")
        changes = len(self.watcher.changes)
        os.kill(pid, signal.SIGKILL)
        time.sleep(4)
        events = self.show_events("worker_lost", "worker_restarted")
        story.check(len(self.watcher.changes) == changes, "IPVS did not change")
        others = [event["name"] for event in events if str(event["name"]).startswith(("server", "service"))]
        story.check(not others, "no server's state changed")

    def restart(self) -> None:
        """The agent restarts."""
        story = self.story
        story.step("The agent is restarted: the kernel goes on balancing, and nothing in its table changes")
        changes = len(self.watcher.changes)
        begun = time.monotonic()
        self.agent.stop()
        self.agent.start()
        deadline = time.monotonic() + WAIT_S
        status: dict[str, object] = {}
        while time.monotonic() < deadline:
            with contextlib.suppress(RuntimeError, ValueError):
                status = json.loads(self.agent.ctl("status", "--json"))
                servers = [server for service in status["services"] for server in service["servers"]]
                if all(server["state"] == "up" for server in servers):
                    break
            time.sleep(0.5)
        else:
            story.check(False, "every server is up again after the restart")
        self.show_events("agent_stopped", "agent_started")
        story.check(len(self.watcher.changes) == changes, "IPVS did not change")
        story.check(not self.show_clients(begun, "http"), "no request failed")
        self.site.director.run("ip", "address", "delete", f"{VIP}/32", "dev", "eth0")
        story.say("somebody removes the virtual address by hand")
        deadline = time.monotonic() + WAIT_S
        while f"{VIP}/32" not in self.site.director.run("ip", "address") and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.5)
        self.show_events("vip_restored")


@contextlib.contextmanager
def told(story: Story, demo: Demo) -> Iterator[None]:
    """Make an exception of a step a failure of the demo, with the agent's log."""
    try:
        yield
    except (TimeoutError, RuntimeError, StopIteration, subprocess.TimeoutExpired) as error:
        story.check(False, f"{type(error).__name__}: {error}")
        story.show("log  ", demo.agent.log())


def main() -> int:
    """Run the demo and return its exit status."""
    if os.geteuid() != 0:
        print("make demo needs root: it makes network namespaces. Nothing outside of them is touched.", file=sys.stderr)
        return 2
    story = Story()
    with open_site() as site:
        demo = Demo(site, story)
        with told(story, demo):
            demo.run()
        demo.watcher.stop()
    return story.end()


if __name__ == "__main__":
    sys.exit(main())
