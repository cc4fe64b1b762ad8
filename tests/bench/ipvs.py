"""What a table of 100 services with 20 servers each costs, beside `ipvsadm -R` with the same one.

python -m tests.lab.uml -- python -m tests.bench.ipvs
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from hawatch.actions.ipvs import Ipvs
from hawatch.health.table import diff
from hawatch.model import Destination, DestinationKey, Family, ServiceKey, TableEntry, VirtualService

SERVICES, SERVERS, RUNS = 100, 20, 5


def make_table() -> dict[ServiceKey, TableEntry]:
    """Return the table."""
    table = {}
    for one in range(SERVICES):
        key = ServiceKey(Family.IPV4, "tcp", f"192.0.2.{one}", 80)
        servers = [Destination(DestinationKey(f"198.51.{one}.{n + 1}", 80)) for n in range(SERVERS)]
        table[key] = TableEntry(VirtualService(key), {server.key: server for server in servers})
    return table


def ipvsadm_lines(table: dict[ServiceKey, TableEntry]) -> str:
    """Return the table as `ipvsadm -R` reads it."""
    lines = []
    for key, entry in table.items():
        lines.append(f"-A -t {key.address}:{key.port} -s wlc")
        lines += [f"-a -t {key.address}:{key.port} -r {one} -g -w 1" for one in entry.destinations]
    return "\n".join([*lines, ""])


def timed_ms(work: object) -> float:
    """Return how long a call took."""
    assert callable(work)
    began = time.monotonic()
    work()
    return (time.monotonic() - began) * 1000


def main() -> int:
    """Measure and print medians and the ratio."""
    table = make_table()
    lines = ipvsadm_lines(table)
    ours, theirs, unchanged, one_change = [], [], [], []
    for _ in range(RUNS):
        subprocess.run(["ipvsadm", "-C"], check=True)
        theirs.append(timed_ms(lambda: subprocess.run(["ipvsadm", "-R"], input=lines, text=True, check=True)))
        subprocess.run(["ipvsadm", "-C"], check=True)
        with Ipvs.open() as ipvs:
            ours.append(timed_ms(lambda ipvs=ipvs: ipvs.apply(diff(ipvs.read(), table))))
            assert ipvs.read() == table
            unchanged.append(timed_ms(lambda ipvs=ipvs: ipvs.apply(diff(ipvs.read(), table))))
            assert diff(ipvs.read(), table) == ()
            key = next(iter(table))
            less = table | {key: TableEntry(table[key].service, dict(list(table[key].destinations.items())[1:]))}
            change = diff(table, less)
            one_change.append(timed_ms(lambda ipvs=ipvs, change=change: ipvs.apply(change)))
    subprocess.run(["ipvsadm", "-C"], check=True)
    print(f"{SERVICES} services x {SERVERS} servers, median of {RUNS}:")
    print(f"  ipvsadm -R              {statistics.median(theirs):7.0f} ms")
    print(f"  hawatch, read and apply {statistics.median(ours):7.0f} ms", end="")
    print(f"   ratio {statistics.median(ours) / statistics.median(theirs):.2f}")
    print(f"  unchanged: read and compare {statistics.median(unchanged):3.0f} ms, 0 changes sent")
    print(f"  one server out          {statistics.median(one_change):7.2f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
