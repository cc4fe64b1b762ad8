"""Reading and planning a site of 100 services with 20 servers each: `python -m tests.bench.configuration`."""

from __future__ import annotations

from time import perf_counter

from hawatch.config.diff import describe_changes
from hawatch.config.load import load_text
from hawatch.config.plan import make_plan

SERVICES, SERVERS = 100, 20


def site() -> str:
    """Return the file of a large site."""
    text = ""
    for number in range(SERVICES):
        text += f'[[service]]\nname = "s{number}"\naddress = "10.1.{number}.1"\nport = 80\n'
        text += 'probe = { type = "http", path = "/health", interval = "2s" }\n'
        for server in range(SERVERS):
            text += f'[[service.server]]\naddress = "10.2.{number}.{server + 1}"\nweight = {server + 1}\n'
    return text


def main() -> None:
    """Print what each step takes."""
    text = site()
    load_text(text)  # imports the probe
    begin = perf_counter()
    config = load_text(text)
    loaded = perf_counter()
    plan = make_plan(config, "")
    planned = perf_counter()
    changes = describe_changes(config, load_text(text.replace("weight = 7\n", "weight = 8\n")))
    print(f"{SERVICES} services with {SERVERS} servers each, {len(text) / 1000:.0f} kB")
    print(
        f"  load {1000 * (loaded - begin):.0f} ms, plan {1000 * (planned - loaded):.0f} ms ({len(plan.checks)} checks)"
    )
    print(f"  {len(changes)} changes described")


if __name__ == "__main__":
    main()
