#!/bin/sh
# Install what the lab needs, where it is missing. Daemons that come along are not started: the lab starts its own.
set -eu
wanted="iproute2 iputils-ping iputils-arping tcpdump conntrack ipvsadm nftables openssl procps util-linux
nginx-light postfix dovecot-pop3d bind9 bind9-dnsutils keepalived mon monitoring-plugins-basic fping libnet-dns-perl
systemd spin gcc libc6-dev prometheus prometheus-alertmanager chromium user-mode-linux kmod"
missing=""
for package in $wanted; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "these packages are missing; install them as root: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi
echo "installing:$missing"
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
    trap 'rm -f $policy' EXIT
fi
apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
