"""Boot User-Mode Linux with Debian's systemd as its first process, and run a command in it as root.

    python -m tests.lab.systemd_guest [--timeout 300] -- COMMAND [ARG ...]

The root file system is the host's under an overlay in memory: what the guest writes is gone with it. The units of the
host are there but not started, but for the basic ones; `basic.target` is reached before the command runs. Its output
comes through; its exit status is ours. Exit status 125: the guest did not boot, or was stopped at its limit.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.lab.uml import GUEST_FAILED, LINUX_UML, MODULE_TREE, on_one_processor, write_environment

INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t tmpfs run /run
insmod {module_tree}/$(uname -r)/kernel/fs/overlayfs/overlay.ko
mkdir -p /run/upper /run/work /run/root
mount -t overlay overlay -o lowerdir=/,upperdir=/run/upper,workdir=/run/work /run/root
cd /run/root
mkdir -p lib/modules old
mount --bind {module_tree} lib/modules
mount -t hostfs none -o {scratch} .{scratch}
rm -rf etc/systemd/system/*.wants etc/machine-id
ln -sf /dev/null etc/tmpfiles.d/tmp.conf  # which empties /tmp: the tree may lie there
for unit in {masked}; do ln -sf /dev/null etc/systemd/system/$unit; done
cp {scratch}/lab.target {scratch}/lab-work.service etc/systemd/system/
umount /proc
pivot_root . old
exec chroot . /lib/systemd/systemd --unit=lab.target --log-level=notice --show-status=0 </dev/null >/dev/null 2>&1
"""
MASKED = (
    "systemd-networkd.service systemd-networkd.socket systemd-networkd-wait-online.service networking.service "
    "NetworkManager.service NetworkManager-wait-online.service dhcpcd.service systemd-timesyncd.service"
)
"""The guest's network is the command's own business, and what waits for one would wait for good."""
TARGET = """[Unit]
Requires=basic.target
After=basic.target
Wants=lab-work.service
"""
WORK = """[Unit]
After=basic.target
[Service]
Type=oneshot
ExecStartPre=/bin/stty -F /dev/tty1 raw
ExecStart=/bin/sh {scratch}/work
ExecStopPost=/bin/systemctl poweroff -ff
StandardOutput=tty
StandardError=tty
TTYPath=/dev/tty1
"""
SCRIPT = """. {scratch}/environment
ip link set lo up
cd {directory}
{command}
echo $? >{scratch}/status
stty -F /dev/tty1 -echo
"""


def run_under_systemd(command: list[str], *, memory: str, timeout_s: float) -> int:
    """Boot, run the command, and return its exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the guest ends with us
    with tempfile.TemporaryDirectory(prefix="hawatch-systemd-", dir="/var/tmp") as name:
        scratch = Path(name)
        scratch.chmod(0o755)
        write_environment(scratch / "environment")
        words = {
            "scratch": name, "module_tree": MODULE_TREE, "directory": shlex.quote(str(Path.cwd())),
            "command": shlex.join(command), "masked": MASKED,
        }  # fmt: skip
        for file, text in (("init", INIT), ("lab.target", TARGET), ("lab-work.service", WORK), ("work", SCRIPT)):
            (scratch / file).write_text(text.format(**words) if file != "lab.target" else text, encoding="utf-8")
        (scratch / "init").chmod(0o755)
        boot = [
            *on_one_processor(), LINUX_UML, f"mem={memory}", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro",
            f"init={name}/init", "con=null", "con1=fd:0,fd:1", "quiet", "loglevel=3", f"uml_dir={name}",
        ]  # fmt: skip
        guest = subprocess.Popen(boot, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            guest.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            print(f"systemd_guest: stopped after {timeout_s:.0f} s", file=sys.stderr)
        finally:
            if guest.poll() is None:
                os.killpg(guest.pid, signal.SIGKILL)
                guest.wait()
        try:
            return int((scratch / "status").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return GUEST_FAILED


def main() -> int:
    """Run the command of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.systemd_guest", description=__doc__.split("\n")[0])
    parser.add_argument("--memory", default="1G")
    parser.add_argument("--timeout", type=float, default=300.0, metavar="SECONDS")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        parser.error("a command is needed")
    return run_under_systemd(command, memory=arguments.memory, timeout_s=arguments.timeout)


if __name__ == "__main__":
    sys.exit(main())
