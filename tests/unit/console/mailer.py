"""A Postfix on loopback that delivers into directories of its own: what arrived can be read, and it can misbehave."""

from __future__ import annotations

import contextlib
import email
import email.message
import email.policy
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.unit.daemons import _directory, free_ports

MAIN = """
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
mail_owner = postfix
setgid_group = postdrop
myhostname = mail.example
mydestination =
inet_interfaces = 127.0.0.1, [::1]
inet_protocols = all
virtual_mailbox_domains = mail.example
virtual_mailbox_base = {directory}/boxes
virtual_mailbox_maps = inline:{{ {{ops@mail.example=ops/}}, {{night@mail.example=night/}} }}
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
smtpd_relay_restrictions = reject_unauth_destination
smtpd_recipient_restrictions = {restrictions}
smtpd_end_of_data_restrictions = {end_of_data}
virtual_destination_concurrency_limit = 1
smtpd_tls_security_level = may
smtpd_tls_cert_file = {directory}/cert.pem
smtpd_tls_key_file = {directory}/key.pem
maillog_file = {directory}/maillog
maillog_file_prefixes = {directory}
enable_long_queue_ids = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:{sasl}
smtpd_sasl_security_options = noanonymous
"""
MASTER = """
127.0.0.1:{plain} inet n - n - - smtpd
127.0.0.1:{tls} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
[::1]:{plain} inet n - n - - smtpd
127.0.0.1:{login} inet n - n - - smtpd -o smtpd_sasl_auth_enable=yes -o smtpd_tls_auth_only=yes
  -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
proxymap unix - - n - - proxymap
rewrite unix - - n - - trivial-rewrite
virtual unix - n n - - virtual
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
error unix - - n - - error
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""
SASL = """
base_dir = {directory}/dovecot
state_dir = {directory}/dovecot
log_path = {directory}/dovecot.log
protocols =
ssl = no
auth_mechanisms = {mechanisms}
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = {directory}/passwd
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  inet_listener {{
    address = 127.0.0.1
    port = {sasl}
  }}
}}
"""
ARRIVAL_S = 20.0


def _taken(mail: email.message.EmailMessage) -> str:
    """Return a message's long queue identifier, which begins with the time in microseconds and sorts by it."""
    received = re.search(r"SMTPS?A? id (\S+)", str(mail["Received"]))
    assert received is not None, mail["Received"]
    return received[1]


@dataclass
class Mailer:
    """One running Postfix."""

    directory: Path
    plain: int
    tls: int
    ca_file: str
    login: int = 0
    """Port that wants a login: hawatch, geheim; over TLS."""
    sasl: int = 0
    silent: socket.socket | None = None
    down: bool = False

    def command(self, *words: str) -> None:
        """Run a command of Postfix's."""
        subprocess.run(
            ["/usr/sbin/postfix", "-c", str(self.directory / "etc"), *words], check=True, capture_output=True
        )

    def configure(self, restrictions: str = "permit", end_of_data: str = "") -> None:
        """Write its configuration."""
        account = os.stat(self.directory / "boxes")
        text = MAIN.format(
            directory=self.directory, uid=account.st_uid, gid=account.st_gid, restrictions=restrictions,
            end_of_data=end_of_data, sasl=self.sasl,
        )  # fmt: skip
        (self.directory / "etc/main.cf").write_text(text)

    def answer_451(self) -> None:
        """Refuse every recipient for now."""
        self.configure("check_recipient_access static:{451 4.3.0 later}")
        self.command("reload")

    def hang_after_data(self) -> None:
        """Say nothing once a whole message has come: a policy service, which never answers, is asked first."""
        self.silent = socket.create_server(("127.0.0.1", 0), backlog=100)
        port = self.silent.getsockname()[1]
        self.configure(end_of_data=f"check_policy_service inet:127.0.0.1:{port}")
        self.command("reload")

    def go_down(self) -> None:
        """Stop: nobody listens."""
        self.command("stop")
        self.down = True

    def be_well(self) -> None:
        """Take everything."""
        self.configure()
        self.command("start" if self.down else "reload")
        self.down = False
        if self.silent is not None:
            self.silent.close()  # who still waits for its answer refuses the message
            self.silent = None

    def empty(self) -> None:
        """Forget what has arrived."""
        for file in (self.directory / "boxes").glob("*/new/*"):
            file.unlink()

    def signal_smtpd(self, number: signal.Signals) -> None:
        """Signal every process of ours that speaks SMTP."""
        pids = subprocess.run(["pgrep", "-f", "^smtpd "], capture_output=True, text=True, check=False).stdout.split()
        master = (self.directory / "queue/pid/master.pid").read_text().strip()
        for pid in pids:
            stat = Path(f"/proc/{pid}/stat")
            if stat.exists() and stat.read_text().rpartition(")")[2].split()[1] == master:
                os.kill(int(pid), number)

    def mails(self, box: str = "ops") -> list[email.message.EmailMessage]:
        """Return what has arrived, in the order in which Postfix took it: it delivers in an order of its own."""
        files = (self.directory / "boxes" / box / "new").glob("*")
        found = [email.message_from_bytes(file.read_bytes(), policy=email.policy.default) for file in files]
        return sorted(found, key=_taken)

    def wait_mails(self, count: int, box: str = "ops", limit_s: float = ARRIVAL_S) -> list[email.message.EmailMessage]:
        """Wait for so many mails."""
        until = time.monotonic() + limit_s
        while len(found := self.mails(box)) < count:
            assert time.monotonic() < until, f"{len(found)} mails of {count}:\n{self.log()}"
            time.sleep(0.02)
        return found

    @contextmanager
    def logins(self, mechanisms: str = "plain login cram-md5") -> Iterator[None]:
        """Have Dovecot answer for logins, which Postfix asks."""
        (self.directory / "dovecot.conf").write_text(
            SASL.format(directory=self.directory, sasl=self.sasl, mechanisms=mechanisms)
        )
        (self.directory / "passwd").write_text("hawatch:{PLAIN}geheim\n")
        process = subprocess.Popen(["/usr/sbin/dovecot", "-F", "-c", str(self.directory / "dovecot.conf")])
        try:
            until = time.monotonic() + ARRIVAL_S
            while time.monotonic() < until:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.sasl), 1) as asked:
                    if asked.recv(10):
                        break
                time.sleep(0.05)
            yield
        finally:
            process.terminate()
            process.wait(20)

    def log(self) -> str:
        """Return Postfix's log."""
        return (self.directory / "maillog").read_text()


@contextmanager
def mailer() -> Iterator[Mailer]:
    """Run a Postfix for ops@mail.example and night@mail.example."""
    plain, tls, login, sasl = free_ports(4)
    with _directory() as (directory, ca_file):
        for name in ("etc", "queue", "data", "boxes"):
            (directory / name).mkdir()
        shutil.chown(directory / "data", "postfix")
        shutil.chown(directory / "boxes", "nobody", "nogroup")
        (directory / "etc/master.cf").write_text(MASTER.format(plain=plain, tls=tls, login=login))
        made = Mailer(directory, plain, tls, ca_file, login, sasl)
        made.configure()
        made.command("start")
        try:
            yield made
        finally:
            made.signal_smtpd(signal.SIGCONT)
            made.command("stop")
