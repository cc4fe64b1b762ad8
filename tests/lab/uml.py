"""Run a command on a kernel that has IPVS: here where it can, else inside User-Mode Linux.

    python -m tests.lab.uml [--memory 1G] [--timeout 600] -- COMMAND [ARG ...]

The guest boots Debian's ``user-mode-linux`` on the host's own root file system (hostfs), so the command
sees the same files, the same working directory and the same environment. Its output comes through as it
is printed; its exit status is ours. Exit status 125: the guest did not boot or was stopped at its limit.

``python -m tests.lab.uml --needed`` exits 0 when a guest is needed (this kernel has no IPVS), else 1.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

LINUX_UML = "linux.uml"
MODULE_TREE = Path("/usr/lib/uml/modules")
GUEST_FAILED = 125
"""Exit status when no status of the command is known: no boot, a panic, or the time limit."""

MODULES = (
    "ip_vs ip_vs_rr ip_vs_wrr ip_vs_lc ip_vs_wlc ip_vs_lblc ip_vs_lblcr ip_vs_sh ip_vs_dh ip_vs_mh ip_vs_fo "
    "ip_vs_ovf ip_vs_sed ip_vs_nq ip_vs_pe_sip nf_conntrack nf_nat xt_MASQUERADE nf_tables nft_chain_nat nft_masq "
    "nft_ct veth bridge dummy macvlan vrf sch_netem ipip ip6_tunnel sit fou ip_gre tun af_packet nfnetlink_queue"
)
"""Kernel modules of the lab; one that this kernel has built in, or lacks, is passed over."""

INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
mkdir -p /dev/pts /dev/shm /run/netns /run/lock /lib/modules
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount --bind {module_tree} /lib/modules
modprobe -a -q {modules} 2>/dev/null
ip link set lo up
hostname uml
. {environment}
cd {directory}
stty -F /dev/tty1 raw
setsid -w {command} </dev/null >/dev/tty1 2>&1
echo $? > {status_file}
stty -F /dev/tty1 -echo
poweroff -f >/dev/null
"""


def has_ipvs() -> bool:
    """Tell whether the running kernel can do IPVS (loading the module where that is allowed)."""
    if Path("/proc/net/ip_vs").exists():
        return True
    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "-q", "ip_vs"], check=False, capture_output=True)
    return Path("/proc/net/ip_vs").exists()


def in_guest() -> bool:
    """Tell whether this runs in a guest of ours, where what is the whole machine's may be changed."""
    return os.environ.get("HAWATCH_IN_UML") == "1"


def write_environment(path: Path) -> None:
    """Write the exports that carry our environment into the guest."""
    keep = {name: value for name, value in os.environ.items() if name.isidentifier()}
    if not sys.stdout.isatty():
        keep["NO_COLOR"] = "1"  # in the guest every output looks like a terminal
    lines = [f"export {name}={shlex.quote(value)}" for name, value in keep.items()]
    path.write_text("\n".join([*lines, "export HAWATCH_IN_UML=1", ""]), encoding="utf-8")


def on_one_processor() -> list[str]:
    """Return the words that keep a guest on one processor: it has only one, and is twice as fast where it stays."""
    allowed = sorted(os.sched_getaffinity(0))
    return ["taskset", "--cpu-list", str(allowed[os.getpid() % len(allowed)])]


def run_in_guest(command: list[str], *, memory: str, timeout_s: float) -> int:
    """Boot a guest, run the command in it, and return the command's exit status."""
    if shutil.which(LINUX_UML) is None or not MODULE_TREE.is_dir():
        print("uml: Debian's packages user-mode-linux and kmod are needed", file=sys.stderr)
        return GUEST_FAILED
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the guest ends with us
    with tempfile.TemporaryDirectory(prefix="hawatch-uml-") as scratch:
        status_file = Path(scratch, "status")
        environment = Path(scratch, "environment")
        write_environment(environment)
        init = Path(scratch, "init")
        init.write_text(
            INIT.format(
                module_tree=MODULE_TREE,
                modules=MODULES,
                environment=environment,
                directory=shlex.quote(str(Path.cwd())),
                command=shlex.join(command),
                status_file=status_file,
            ),
            encoding="utf-8",
        )
        init.chmod(0o755)
        boot = [
            *on_one_processor(),
            LINUX_UML,
            f"mem={memory}",
            "root=/dev/root",
            "rootfstype=hostfs",
            "rootflags=/",
            "rw",
            f"init={init}",
            "con=null",
            "con1=fd:0,fd:1",
            "quiet",
            "loglevel=3",
            f"uml_dir={scratch}",
        ]
        guest = subprocess.Popen(boot, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            guest.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            print(f"uml: stopped after {timeout_s:.0f} s", file=sys.stderr)
        finally:
            if guest.poll() is None:
                os.killpg(guest.pid, signal.SIGKILL)
                guest.wait()
        try:
            return int(status_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return GUEST_FAILED


def main() -> int:
    """Run the command of the command line where there is IPVS."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.uml", description=__doc__.split("\n")[0])
    parser.add_argument("--memory", default="1G")
    parser.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS")
    parser.add_argument("--needed", action="store_true", help="exit 0 when this kernel has no IPVS, else 1")
    parser.add_argument("--always", action="store_true", help="use a guest even where this kernel has IPVS")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if arguments.needed:
        return int(has_ipvs())
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        parser.error("a command is needed")
    if has_ipvs() and not arguments.always:
        return subprocess.run(command, check=False).returncode
    return run_in_guest(command, memory=arguments.memory, timeout_s=arguments.timeout)


if __name__ == "__main__":
    sys.exit(main())
