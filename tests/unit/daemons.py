"""Real servers of mail on loopback, with directories and ports of their own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.unit.servers import make_pki

DOVECOT = """
base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/log
protocols = pop3
listen = 127.0.0.1
ssl = yes
ssl_cert = <{directory}/cert.pem
ssl_key = <{directory}/key.pem
disable_plaintext_auth = no
auth_mechanisms = plain apop
auth_failure_delay = 0
mail_location = maildir:{directory}/mail/%u
passdb {{
  driver = passwd-file
  args = {directory}/passwd
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={directory}/home
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {plain}
  }}
  inet_listener pop3s {{
    port = {tls}
  }}
}}
"""
POSTFIX_MAIN = """
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
mail_owner = postfix
setgid_group = postdrop
myhostname = mail.example
mydestination = mail.example
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
local_recipient_maps = static:{{OK}}
alias_maps =
smtpd_relay_restrictions = reject_unauth_destination
smtpd_tls_security_level = may
smtpd_tls_cert_file = {directory}/cert.pem
smtpd_tls_key_file = {directory}/key.pem
maillog_file = {directory}/maillog
maillog_file_prefixes = {directory}
"""
POSTFIX_MASTER = """
127.0.0.1:{plain} inet n - n - - smtpd
127.0.0.1:{tls} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
cleanup unix n - n - 0 cleanup
rewrite unix - - n - - trivial-rewrite
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""


def free_ports(count: int) -> list[int]:
    """Return ports of loopback where nobody listens."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextmanager
def _directory() -> Iterator[tuple[Path, str]]:
    """Make a directory that the servers' users can enter, with a certificate; yield it and the CA's file."""
    with tempfile.TemporaryDirectory(prefix="hawatch-test-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        pki = make_pki(directory)
        leaf = pki.ca.issue_cert("127.0.0.1", "mail.example")
        leaf.private_key_pem.write_to_path(str(directory / "key.pem"))
        leaf.cert_chain_pems[0].write_to_path(str(directory / "cert.pem"))
        yield directory, pki.ca_file


@contextmanager
def dovecot() -> Iterator[tuple[int, int, str]]:
    """Run Dovecot with the user probe, password geheim; yield its ports, plain and TLS, and the CA's file."""
    plain, tls = free_ports(2)
    with _directory() as (directory, ca_file):
        (directory / "dovecot.conf").write_text(DOVECOT.format(directory=directory, plain=plain, tls=tls))
        (directory / "passwd").write_text("probe:{PLAIN}geheim\n")
        (directory / "mail").mkdir()
        shutil.chown(directory / "mail", "nobody")
        process = subprocess.Popen(["/usr/sbin/dovecot", "-F", "-c", str(directory / "dovecot.conf")])
        try:
            yield plain, tls, ca_file
        finally:
            process.terminate()
            process.wait(20)


@contextmanager
def postfix() -> Iterator[tuple[int, int, str]]:
    """Run Postfix for mail.example; yield its ports, plain and TLS, and the CA's file."""
    plain, tls = free_ports(2)
    with _directory() as (directory, ca_file):
        for name in ("etc", "queue", "data"):
            (directory / name).mkdir()
        shutil.chown(directory / "data", "postfix")
        (directory / "etc/main.cf").write_text(POSTFIX_MAIN.format(directory=directory))
        (directory / "etc/master.cf").write_text(POSTFIX_MASTER.format(plain=plain, tls=tls))
        command = ["/usr/sbin/postfix", "-c", str(directory / "etc")]
        subprocess.run([*command, "start"], check=True, capture_output=True)
        try:
            yield plain, tls, ca_file
        finally:
            subprocess.run([*command, "stop"], check=True, capture_output=True)
