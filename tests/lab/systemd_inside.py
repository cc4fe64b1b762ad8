"""Both units under a real systemd, doing the whole job; run by `systemd_guest`, as root.

The machine is director lvs1 and witness rs1 at once; lvs2 is away. It is installed as docs/howto/install.md says,
line by line. Behind the bridge br0 is a client's namespace, which has the real server, too. Each line printed is a
fact that was seen; the first one that is missing ends this with an error.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable
from email import message_from_bytes, policy
from pathlib import Path

from hawatch.config.machine import CLOCK_SOURCE
from tests.lab.modules import ROOT, copy_modules
from tests.lab.pair.shell import LabError, run, wait_until

CLIENT = "client"
VIP = "192.168.1.110"
LIMIT_S = 120.0
"""A guest has one slow processor."""
CONFIG = """
[cluster]
name = "unit"
key_file = "/etc/hawatch/keys"
[[director]]
name = "lvs1"
links = ["10.99.0.1", "192.168.1.5"]
[[director]]
name = "lvs2"
links = ["10.99.0.2", "192.168.1.6"]
[[witness]]
name = "rs1"
links = ["10.99.0.3", "192.168.1.1"]
[[group]]
name = "web"
prefer = "lvs1"
addresses = [{ address = "192.168.1.110/32", interface = "br0" }]
[[service]]
name = "http"
group = "web"
address = "192.168.1.110"
port = 80
forward = "masquerade"
[[service.probe]]
type = "http"
interval = "1s"
timeout = "900ms"
fall = 1
rise = 1
[[service.probe]]
type = "ping"
interval = "1s"
timeout = "900ms"
[[service.probe]]
type = "exec"
command = ["/bin/grep", "-q", "^CapAmb:.*2000$", "/proc/self/status"]
interval = "5s"
timeout = "4s"
[[service.server]]
address = "192.168.1.10"
port = 8001
[alert.email.ops]
to = ["ops@example.org"]
from = "hawatch@example.org"
server = "127.0.0.1:2525"
tls = "none"
burst = 1000
"""
COMMAND = """#!/bin/sh
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/opt/hawatch/lib:/opt/hawatch/packages exec {python} -P -m hawatch.cli.main "$@"
"""


def fact(words: str) -> None:
    """Print what was seen."""
    print(f"* {words}", flush=True)


def wait(condition: Callable[[], object], words: str) -> None:
    """Wait until something is so, and print it."""
    wait_until(condition, words, limit_s=LIMIT_S, poll_s=0.2)
    fact(words)


class Mailbox(threading.Thread):
    """Takes mail on port 2525 and keeps the subjects."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.subjects: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 2525))
        self.start()

    def run(self) -> None:
        while True:
            with self.listener.accept()[0] as connection, connection.makefile("rwb", buffering=0) as talk:
                talk.write(b"220 mail.example ESMTP\r\n")
                in_data, mail = False, b""
                for line in talk:
                    if in_data:
                        mail += line
                        in_data = line != b".\r\n"
                        answer = b"" if in_data else b"250 taken\r\n"
                        if not in_data:
                            found = message_from_bytes(mail, policy=policy.SMTP)  # a long subject has several lines
                            self.subjects.append(str(found["Subject"]))
                            mail = b""
                    else:
                        in_data = line.upper().startswith(b"DATA")
                        answer = b"354 go on\r\n" if in_data else b"250 mail.example\r\n"
                    if answer:
                        talk.write(answer)


def install() -> None:
    """Put the program where no unit hides it, and do what the guide says for the rest."""
    packages = Path(sysconfig.get_path("purelib"))
    library = Path("/opt/hawatch/lib")
    library.mkdir(parents=True)
    copy_modules(library)
    Path("/opt/hawatch/packages").mkdir()
    run(["mount", "--bind", str(packages), "/opt/hawatch/packages"])
    command = Path("/usr/bin/hawatch")
    command.unlink(missing_ok=True)
    command.write_text(COMMAND.format(python=interpreter()))
    command.chmod(0o755)
    guide = (ROOT / "docs/howto/install.md").read_text(encoding="utf-8")
    steps = [line.strip() for line in guide.splitlines() if line.startswith("    install ")]
    assert len(steps) >= 4, steps
    for step in steps:
        run(["sh", "-ec", f"cd {ROOT}; {step}"])
    Path("/etc/hawatch/hawatch.toml").write_text(CONFIG)
    run(["sh", "-ec", "hawatch keygen /etc/hawatch/keys; chown hawatch: /etc/hawatch/keys"])
    fake = Path("/run/clocksource")
    fake.write_text("kvm-clock\n")
    run(["mount", "--bind", str(fake), str(CLOCK_SOURCE)])
    assert "this machine's clock is kvm-clock" in run(["hawatch", "check"])
    run(["hostname", "lvs1"])
    witness = Path("/etc/systemd/system/hawatch-witness.service")
    lines = witness.read_text().splitlines()
    start = next(line for line in lines if line.startswith("ExecStart="))
    drop_in = witness.with_suffix(".service.d")
    drop_in.mkdir()
    (drop_in / "node.conf").write_text(f"[Service]\nExecStart=\n{start} --node rs1\n")
    run(["systemctl", "daemon-reload"])
    fact("installed as the guide says")


def interpreter() -> str:
    """Return an interpreter that the unit sees: none in a home directory."""
    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    return system if Path(system).exists() else os.path.realpath(sys.executable)


def make_network() -> None:
    """Make the machine's links, and the client behind the bridge."""
    run(["modprobe", "-a", "bridge", "veth", "dummy"])
    run(["ip", "netns", "add", CLIENT])
    run(["ip", "-batch", "-"], stdin="\n".join((
        "link add hb0 type dummy", "address add 10.99.0.1/24 dev hb0", "address add 10.99.0.3/24 dev hb0",
        "link set hb0 up", "link add br0 type bridge", f"link add br0p type veth peer name eth0 netns {CLIENT}",
        "link set br0p master br0", "link set br0p up", "address add 192.168.1.5/24 dev br0",
        "address add 192.168.1.1/24 dev br0", "link set br0 up", "",
    )))  # fmt: skip
    run(
        ["ip", "-n", CLIENT, "-batch", "-"],
        stdin="link set lo up\naddress add 192.168.1.10/24 dev eth0\nlink set eth0 up\n",
    )


def start_server() -> subprocess.Popen[bytes]:
    """Start the real server."""
    words = ["ip", "netns", "exec", CLIENT, sys.executable, "-m", "http.server", "8001", "--directory", "/etc/hawatch"]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def show(unit: str, *names: str) -> dict[str, str]:
    """Return properties of a unit."""
    said = run(["systemctl", "show", unit, "--property", ",".join(names)])
    return dict(line.split("=", 1) for line in said.splitlines())


def status() -> dict[str, object]:
    """Return the agent's status, {} while there is none."""
    said = run(["hawatch", "ctl", "status", "--json"], check=False)
    return json.loads(said) if said else {}


def group_state() -> str:
    """Return the state of the group, "" while there is none."""
    groups = status().get("groups") or [{}]
    return str(groups[0].get("state", ""))  # type: ignore[index]


def journal() -> list[dict[str, object]]:
    """Return the events in systemd's journal."""
    lines = run(["journalctl", "-u", "hawatch", "-o", "cat", "--no-pager"]).splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def in_journal(name: str) -> bool:
    """Tell whether an event is in the journal."""
    return any(event["name"] == name for event in journal())


def pid_of(name: str) -> int:
    """Return the process of the unit that has this name, 0 for none."""
    for pid in Path("/sys/fs/cgroup/system.slice/hawatch.service/cgroup.procs").read_text().split():
        with contextlib.suppress(OSError):  # it may end meanwhile
            if Path(f"/proc/{pid}/comm").read_text() == f"{name}\n":
                return int(pid)
    return 0


def state_of(pid: int) -> dict[str, str]:
    """Return what the kernel says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, value in (line.split(":", 1) for line in lines)}


def check_sandbox() -> None:
    """See that the processes are kept in, and may do what the core needs."""
    keeper, core = int(show("hawatch", "MainPID")["MainPID"]), pid_of("hawatch:core")
    user = run(["id", "-u", "hawatch"]).strip()
    for pid in (keeper, core, pid_of("hawatch:prober"), pid_of("hawatch:console"[:15])):
        seen = state_of(pid)
        assert seen["Uid"].split()[0] == user, seen
        assert (seen["NoNewPrivs"], seen["Seccomp"]) == ("1", "2"), seen
    net_admin_raw_bind = 1 << 12 | 1 << 13 | 1 << 10
    assert int(state_of(keeper)["CapBnd"], 16) == net_admin_raw_bind, state_of(keeper)
    assert int(state_of(core)["CapEff"], 16) == net_admin_raw_bind, state_of(core)
    assert int(state_of(pid_of("hawatch:console"[:15]))["CapEff"], 16) == 0
    assert int(state_of(core)["VmLck"].split()[0]) > 0, state_of(core)
    assert os.sched_getscheduler(core) == os.SCHED_RR
    said = run(["journalctl", "-u", "hawatch", "-o", "cat", "--no-pager"])
    assert "without real-time priority" not in said, said
    assert "not locked" not in said, said
    fact("user, capabilities, seccomp, real-time turns and locked memory are as the unit says")


def check_work() -> None:
    """See that probes, IPVS, gate, VIP, announcements and mail work."""
    wait(lambda: group_state() == "owner", "the witness's unit granted the lease: lvs1 owns the group")
    wait(
        lambda: "-> C0A8010A:1F41" in Path("/proc/net/ip_vs").read_text(),
        "http, ping and exec probes: the server is in IPVS",
    )
    wait(lambda: f" {VIP}/32 " in run(["ip", "-o", "address", "show", "dev", "br0"]), "the VIP is on br0")
    assert "hawatch" in run(["nft", "list", "tables"]), "no gate"
    mac = Path("/sys/class/net/br0/address").read_text().strip()
    arping = ["ip", "netns", "exec", CLIENT, "arping", "-c", "3", "-I", "eth0", VIP]
    assert mac in run(arping).lower(), "nobody answers for the VIP"
    fact("the gate is in nftables, and the client's ARP is answered")
    said = run(
        [
            "ip",
            "netns",
            "exec",
            CLIENT,
            "timeout",
            "45",
            "tcpdump",
            "-ln",
            "-i",
            "eth0",
            "-c",
            "1",
            "arp and arp[14:4] = 0xc0a8016e",
        ]
    )
    assert VIP in said, said
    fact("the VIP is announced")


def check_alert(mailbox: Mailbox, server: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """Stop the real server, and see the mail."""
    server.kill()
    server.wait()
    wait(lambda: any("http DOWN" in subject for subject in mailbox.subjects), "a server that dies is mailed")
    started = start_server()
    wait(lambda: in_journal("server_up"), "the events are in the journal")
    return started


def check_manager() -> None:
    """See what the service manager and the agent do together."""
    wanted = {
        "ActiveState": "active",
        "Type": "notify",
        "NotifyAccess": "all",
        "WatchdogUSec": "10s",
        "Restart": "always",
    }
    assert show("hawatch", *wanted) == wanted, show("hawatch", *wanted)
    assert "servers up" in show("hawatch", "StatusText")["StatusText"]
    assert in_journal("clock_may_stop")
    assert any("kvm-clock" in warning for warning in status()["warnings"])  # type: ignore[attr-defined]
    assert show("hawatch-witness", "ActiveState", "StatusText") == {
        "ActiveState": "active",
        "StatusText": "rs1 answers",
    }
    before = len(journal())
    run(["systemctl", "reload", "hawatch", "hawatch-witness"])
    wait(lambda: any(each["name"] == "config_reloaded" for each in journal()[before:]), "systemctl reload reloads")
    wait(lambda: show("hawatch", "ActiveState")["ActiveState"] == "active", "and the unit is active again")
    core = pid_of("hawatch:core")
    os.kill(core, signal.SIGSTOP)
    wait(lambda: pid_of("hawatch:core") not in (0, core), "a core that is stopped is replaced by the keeper")
    assert show("hawatch", "NRestarts") == {"NRestarts": "0"}
    wait(lambda: group_state() == "owner", "and owns the group again")
    keeper = int(show("hawatch", "MainPID")["MainPID"])
    os.kill(keeper, signal.SIGSTOP)
    os.kill(pid_of("hawatch:core"), signal.SIGSTOP)
    wait(
        lambda: show("hawatch", "NRestarts") == {"NRestarts": "1"},
        "with the keeper stopped, too, the watchdog restarts all",
    )
    wait(lambda: group_state() == "owner", "and the restarted agent owns the group")


def check_stop() -> None:
    """See that a stop lets go of everything."""
    run(["systemctl", "stop", "hawatch"])
    assert show("hawatch", "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    assert VIP not in run(["ip", "-o", "address", "show", "dev", "br0"])
    assert in_journal("agent_stopped")
    assert "C0A8016E:0050" in Path("/proc/net/ip_vs").read_text(), "the table is the kernel's to keep"
    fact("systemctl stop lets go of the VIP and leaves the table")
    run(["systemctl", "stop", "hawatch-witness"])
    assert show("hawatch-witness", "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}


def main() -> int:
    """Do it all."""
    install()
    make_network()
    mailbox, server = Mailbox(), start_server()
    try:
        run(["systemctl", "start", "hawatch-witness", "hawatch"], limit_s=LIMIT_S)
        fact("both units are started: READY=1 was said")
        check_work()
        check_sandbox()
        server = check_alert(mailbox, server)
        check_manager()
        check_stop()
    except (LabError, AssertionError, subprocess.TimeoutExpired):
        print(mailbox.subjects, run(["hawatch", "ctl", "status"], check=False))
        print(
            run(
                ["sh", "-c", "hawatch ctl alert-test 2>&1; hawatch ctl alert-test ops 2>&1; ls -la /var/lib/hawatch"],
                check=False,
            )
        )
        print(run(["journalctl", "-u", "hawatch", "-u", "hawatch-witness", "-o", "short", "--no-pager", "-n", "60"]))
        raise
    finally:
        server.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
