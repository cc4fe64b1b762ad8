"""Configuration files of the real daemons, each for one server and all below one directory."""

from __future__ import annotations

from pathlib import Path

DOMAIN = "example.org"
MAIL_USER = "night"
MAIL_PASSWORD = "watch"
MAIL_TEXT = "From: lab@example.org\nTo: night@example.org\nSubject: hello\n\nAll is well.\n"
NOBODY_ID = 65534
WWW_ADDRESS = "192.168.1.110"
LIE_ADDRESS = "203.0.113.66"
"""What a lying DNS server says that www.example.org is."""

NGINX = """
daemon off;
user www-data;
worker_processes 1;
pid {home}/pid;
error_log {home}/error.log warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    server {{
        listen 80;
        listen [::]:80;
        root {home}/www;
        default_type text/plain;
        add_header X-Server {name} always;
        location = /health {{ try_files /health =503; }}
        location = / {{ return 200 "{name}\\n"; }}
    }}
}}
"""

POSTFIX_MAIN = """
compatibility_level = 3.6
config_directory = {home}
queue_directory = {home}/queue
data_directory = {home}/data
maillog_file = {home}/mail.log
maillog_file_prefixes = {home}
myhostname = {name}.{domain}
mydestination = {domain}
mynetworks = 127.0.0.0/8 192.168.1.0/24 10.0.0.0/8 [::1]/128 [fd00::]/15
inet_protocols = all
smtpd_peername_lookup = no
smtpd_banner = $myhostname ESMTP
smtpd_client_event_limit_exceptions = static:all
local_recipient_maps =
alias_maps =
local_transport = discard:
default_transport = discard:
alias_database =
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_tls_security_level = none
disable_dns_lookups = yes
"""

POSTFIX_MASTER = """
smtp      inet  n       -       n       -       20      smtpd
rewrite   unix  -       -       n       -       -       trivial-rewrite
proxymap  unix  -       -       n       -       -       proxymap
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
discard   unix  -       -       n       -       -       discard
postlog   unix-dgram n  -       n       -       1       postlogd
"""

POSTFIX_QUEUES = {
    **dict.fromkeys(
        "active bounce corrupt defer deferred flush hold incoming private saved trace".split(), ("postfix", 0, 0o700)
    ),
    "maildrop": ("postfix", "postdrop", 0o1730),
    "public": ("postfix", "postdrop", 0o2710),
    "pid": (0, 0, 0o755),
}

DOVECOT = """
protocols = pop3
base_dir = {home}/run
state_dir = {home}/state
log_path = {home}/error.log
info_log_path = {home}/info.log
ssl = no
disable_plaintext_auth = no
first_valid_uid = 1
mail_location = maildir:{home}/mail/%u
login_greeting = {name} ready
listen = *, ::
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={nobody} gid={nobody} home={home}/mail/%u
}}
service pop3-login {{
  chroot =
  process_min_avail = 1
  service_count = 0
  inet_listener pop3 {{
    port = 110
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
"""

NAMED = """
options {{
    directory "{home}";
    pid-file none;
    session-keyfile "{home}/session.key";
    lock-file none;
    listen-on {{ any; }};
    listen-on-v6 {{ any; }};
    recursion no;
    dnssec-validation no;
    empty-zones-enable no;
    notify no;
    max-cache-size 4m;
    minimal-responses yes;
}};
controls {{ }};
zone "{domain}" {{ type primary; file "{home}/zone"; }};
"""

ZONE = """$TTL 60
@       SOA     ns.{domain}. hostmaster.{domain}. {serial} 3600 600 86400 60
        NS      ns.{domain}.
ns      A       {www}
www     A       {answer}
whoami  TXT     "{name}"
"""


def write_nginx(home: Path, name: str) -> Path:
    """Write nginx's files and return the configuration."""
    (home / "www").mkdir()
    (home / "www/health").write_text("ok\n", encoding="ascii")
    return write(home / "nginx.conf", NGINX.format(home=home, name=name))


def write_postfix(home: Path, name: str) -> Path:
    """Write Postfix's files and directories, owned as its master wants them, and return the directory."""
    from shutil import chown

    write(home / "main.cf", POSTFIX_MAIN.format(home=home, name=name, domain=DOMAIN))
    write(home / "master.cf", POSTFIX_MASTER)
    (home / "queue").mkdir()
    (home / "data").mkdir()
    chown(home / "data", "postfix")
    for queue, (user, group, mode) in POSTFIX_QUEUES.items():
        path = home / "queue" / queue
        path.mkdir()
        chown(path, user, group)
        path.chmod(mode)
    return home


def write_dovecot(home: Path, name: str) -> Path:
    """Write Dovecot's files, a mail for the user included, and return the configuration."""
    from os import chown

    (home / "mail").mkdir()
    box = home / "mail" / MAIL_USER
    for path in (home / "mail", box, *(box / part for part in ("new", "cur", "tmp"))):
        path.mkdir(exist_ok=True)
        chown(path, NOBODY_ID, NOBODY_ID)
    mail = write(box / "new/1.lab", MAIL_TEXT)
    chown(mail, NOBODY_ID, NOBODY_ID)
    text = DOVECOT.format(home=home, name=name, password=MAIL_PASSWORD, nobody=NOBODY_ID)
    return write(home / "dovecot.conf", text)


def write_named(home: Path, name: str) -> Path:
    """Write BIND's files and return the configuration."""
    write_zone(home, name)
    return write(home / "named.conf", NAMED.format(home=home, domain=DOMAIN))


def write_zone(home: Path, name: str, *, answer: str = WWW_ADDRESS, serial: int = 2026010101) -> None:
    """Write the zone; with another `answer` the server lies about www.example.org."""
    text = ZONE.format(domain=DOMAIN, name=name, answer=answer, serial=serial, www=WWW_ADDRESS)
    write(home / "zone", text)


def write(path: Path, text: str) -> Path:
    """Write a text file and return its path."""
    path.write_text(text, encoding="utf-8")
    return path
