"""The witness: one small process that answers the directors, and so decides which of them may own.

It has no addresses, no probes and no ctl socket. What it sees goes to standard output, a line an event. Having no disk
for what it promised, it promises nothing for a lease's time after its start.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from random import SystemRandom

import trio

from hawatch.agent.lease_site import membership_of, next_boot, read_keys
from hawatch.agent.node_loop import NodeLoop
from hawatch.agent.output import never_wait_for_output, open_standard_descriptors
from hawatch.agent.priority import run_promptly
from hawatch.agent.process import notify_service_manager
from hawatch.agent.runtime import lock_runtime, lock_state
from hawatch.agent.settings import Places, Settings, load_settings, now_ns, wall_ns
from hawatch.cluster.node import Node
from hawatch.errors import ConfigError, UsageError
from hawatch.model import Event

WATCHDOG_S = 1.0


def run_witness(places: Places, node_wanted: str) -> int:
    """Run until told to stop. Raises ConfigError, UsageError, LocalError before anything is touched."""
    open_standard_descriptors()
    settings = load_settings(places, node_wanted)
    if all(witness.name != settings.node for witness in settings.config.witness):
        raise UsageError(f"{settings.node} is no [[witness]]: a director runs `hawatch run`")
    read_keys(settings.config)
    never_wait_for_output()
    for problem in run_promptly():  # where the other director is gone, each of its answers is waited for
        print(f"hawatch witness: {problem}", file=sys.stderr, flush=True)
    locks = [lock_runtime(places)]
    try:
        locks.append(lock_state(places))
        trio.run(_run, settings)
    finally:
        for lock in locks:
            os.close(lock)
    return 0


def emit(events: Iterable[Event]) -> None:
    """Print events."""
    for event in events:
        print(f"hawatch witness: {event.name}: {event.reason}", flush=True)


async def _run(settings: Settings) -> None:
    boot, problem = next_boot(settings.places.state_dir / "boot", wall_ns())
    if problem:
        print(f"hawatch witness: {problem}", file=sys.stderr, flush=True)
    node = Node(
        membership_of(settings.config, settings.node),
        read_keys(settings.config),
        boot=boot,
        random=SystemRandom(),
        now_ns=now_ns(),
    )
    loop = NodeLoop(node, settings.config.cluster.port, now_ns, emit)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(loop.run)
            nursery.start_soon(_feed_watchdog, settings.node)
            notify_service_manager(os.environ.get("NOTIFY_SOCKET", ""), "READY=1")
            print(f"hawatch witness: {settings.node} answers", flush=True)
            async for number in signals:
                if number != signal.SIGHUP:
                    break
                _read_keys_again(settings, node)
            nursery.cancel_scope.cancel()


def _read_keys_again(settings: Settings, node: Node) -> None:
    try:
        node.use_keys(read_keys(settings.config))
        print("hawatch witness: keys read again; other changes of the configuration want a restart", flush=True)
    except ConfigError as error:
        print(f"hawatch witness: the keys stay as they were: {error}", file=sys.stderr, flush=True)


async def _feed_watchdog(name: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    while address:
        notify_service_manager(address, f"WATCHDOG=1\nSTATUS={name} answers")
        await trio.sleep(WATCHDOG_S)
