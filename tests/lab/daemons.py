"""Real daemons in a site's namespaces: nginx, Postfix, Dovecot and BIND, each with a configuration of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.lab.netns import call_in_namespace
from tests.lab.site import VIP, Host, Site, run

READY_LIMIT_S = 60
HTTP, SMTP, POP3, DNS = 80, 25, 110, 53
SERIAL = 2026010101

NGINX = """\
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log; user root;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{
    listen 80; default_type text/plain;
    location = /health {{ return 200 "ok {name}\\n"; }}
    location / {{ return 200 "{name}\\n"; }}
  }}
}}
"""

POSTFIX_MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = {name}.example.org
mydestination = {name}.example.org, example.org
mynetworks = 192.168.1.0/24 127.0.0.0/8
inet_interfaces = all
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
smtpd_recipient_restrictions = permit_mynetworks, reject
maillog_file = {folder}/mail.log
maillog_file_prefixes = /run, /var, /tmp
"""

POSTFIX_MASTER = """\
smtp      inet  n       -       n       -       -       smtpd
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
error     unix  -       -       n       -       -       error
local     unix  -       n       n       -       -       local
anvil     unix  -       -       n       -       1       anvil
postlog   unix-dgram n  -       n       -       1       postlogd
"""

DOVECOT = """\
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/dovecot.log
protocols = pop3
listen = *
ssl = no
disable_plaintext_auth = no
mail_location = maildir:{folder}/mail/%u
first_valid_uid = 1
passdb {{
  driver = static
  args = password=secret
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={folder}/mail/%u
}}
service pop3-login {{
  service_count = 0
  process_min_avail = 1
  client_limit = 200
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
"""

NAMED = """\
options {{
  directory "{folder}";
  pid-file "{folder}/named.pid";
  session-keyfile none;
  managed-keys-directory "{folder}";
  listen-on {{ any; }};
  listen-on-v6 {{ none; }};
  recursion no;
  dnssec-validation no;
}};
controls {{ }};
zone "example.org" {{ type primary; file "{folder}/zone"; }};
"""

ZONE = """\
$TTL 60
@ IN SOA ns.example.org. hostmaster.example.org. {serial} 3600 600 86400 60
@ IN NS ns
ns IN A {vip}
www IN A {answer}
@ IN MX 10 mail
mail IN A {vip}
"""


@dataclass
class Daemon:
    """One daemon on one host."""

    host: Host
    name: str
    port: int
    words: list[str]
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; `wait` tells when it answers."""
        self.process = self.host.start(self.words, self.folder / "output.log")

    def pids(self) -> list[int]:
        """Return its processes: all of its session."""
        if self.process is None:
            return []
        found = run("ps", "-o", "pid=", "-s", str(self.process.pid), check=False).split()
        return [int(pid) for pid in found]

    def signal(self, number: int) -> None:
        """Send a signal to all of its processes."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self) -> float:
        """Kill it, and return when, by time.monotonic(); its port is closed then."""
        self.signal(signal.SIGKILL)
        killed = time.monotonic()
        if self.process is not None:
            self.process.wait(READY_LIMIT_S)
            self.process = None
        return killed

    def wait(self) -> None:
        """Wait until it answers on its port; raise RuntimeError with its log when it does not."""
        probe = _answers_dns if self.port == DNS else _answers_tcp
        deadline = time.monotonic() + READY_LIMIT_S
        while time.monotonic() < deadline:
            if call_in_namespace(self.host.namespace, lambda: probe(self.host.address, self.port)):
                return
            if self.process is not None and self.process.poll() is not None:
                break
            time.sleep(0.05)
        log = "".join(path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*.log"))
        raise RuntimeError(f"{self.name} on {self.host.name} does not answer on port {self.port}:\n{log}")


def _answers_tcp(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), 1) as connection:
            if port == HTTP:
                return True
            connection.settimeout(2)
            return bool(connection.recv(100))
    except OSError:
        return False


def _answers_dns(address: str, port: int) -> bool:
    question = b"\x12\x34\0\0\0\1\0\0\0\0\0\0\7example\3org\0\0\6\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(1)
        try:
            asker.sendto(question, (address, port))
            return len(asker.recv(512)) > 40
        except OSError:
            return False


def _folder(site: Site, host: Host, name: str) -> Path:
    folder = site.folder / f"{host.name}-{name}"
    folder.mkdir(mode=0o755)
    return folder


def nginx(site: Site, host: Host) -> Daemon:
    """Return a web server whose pages name the host."""
    folder = _folder(site, host, "nginx")
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, name=host.name))
    return Daemon(host, "nginx", HTTP, ["nginx", "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"], folder)


def postfix(site: Site, host: Host) -> Daemon:
    """Return a mail server."""
    folder = _folder(site, host, "postfix")
    (folder / "main.cf").write_text(POSTFIX_MAIN.format(folder=folder, name=host.name))
    (folder / "master.cf").write_text(POSTFIX_MASTER)
    run("install", "-d", "-m", "755", f"{folder}/queue")
    run("install", "-d", "-o", "postfix", "-m", "700", f"{folder}/data")
    run("install", "-d", "-o", "root", "-m", "755", f"{folder}/queue/pid")
    for name in ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved",
                 "trace"):  # fmt: skip
        run("install", "-d", "-o", "postfix", "-m", "700", f"{folder}/queue/{name}")
    run("install", "-d", "-o", "postfix", "-g", "postdrop", "-m", "730", f"{folder}/queue/maildrop")
    run("install", "-d", "-o", "postfix", "-g", "postdrop", "-m", "710", f"{folder}/queue/public")
    return Daemon(host, "Postfix", SMTP, ["/usr/lib/postfix/sbin/master", "-c", str(folder), "-d"], folder)


def dovecot(site: Site, host: Host) -> Daemon:
    """Return a mailbox server."""
    folder = _folder(site, host, "dovecot")
    (folder / "dovecot.conf").write_text(DOVECOT.format(folder=folder))
    run("install", "-d", "-o", "nobody", "-m", "700", f"{folder}/mail")
    return Daemon(host, "Dovecot", POP3, ["dovecot", "-F", "-c", f"{folder}/dovecot.conf"], folder)


def bind(site: Site, host: Host) -> Daemon:
    """Return a name server for example.org."""
    folder = _folder(site, host, "bind")
    (folder / "named.conf").write_text(NAMED.format(folder=folder))
    write_zone(folder)
    return Daemon(host, "BIND", DNS, ["named", "-g", "-n", "1", "-c", f"{folder}/named.conf"], folder)


def write_zone(folder: Path, answer: str = VIP) -> None:
    """Write the zone; with another `answer` the server lies about www.example.org."""
    (folder / "zone").write_text(ZONE.format(serial=SERIAL, vip=VIP, answer=answer))
