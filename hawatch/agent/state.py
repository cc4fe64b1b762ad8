"""What an administrator said, kept in one small file: it survives restarts of the agent and of the machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from hawatch.decoding import UNDECODABLE
from hawatch.model import Admin, Plan

VERSION = 1
SIZE_LIMIT = 16 << 20


class AdminEntry(msgspec.Struct, frozen=True):
    """What was said of one server of one service."""

    service: str
    server: str
    """Address and port: "192.168.1.1:80" or "[fd00::1]:80"."""
    admin: Admin


class AdminFile(msgspec.Struct, frozen=True):
    """The file as it is written."""

    version: int = VERSION
    servers: list[AdminEntry] = []
    gaveaway: bool = False
    virtuals: dict[str, str] = {}
    """What each service of `servers` has in the kernel ("tcp 192.0.2.110:80", "fwmark 7"), by its name."""


class AdminState:
    """The words of the administrator, by service and server. Entries of unknown servers are kept: a file with a
    server left out by mistake must not end its drain.
    """

    def __init__(self, file: AdminFile = AdminFile()) -> None:  # noqa: B008 - frozen
        self.gaveaway = file.gaveaway
        self._servers = {(entry.service, entry.server): entry.admin for entry in file.servers}
        self._virtuals = dict(file.virtuals)

    def of(self, service: str, server: str) -> Admin:
        """Return what was said of a server."""
        return self._servers.get((service, server), Admin.NONE)

    def set(self, service: str, server: str, admin: Admin) -> None:
        """Note what is said of a server; in memory only."""
        if admin is Admin.NONE:
            self._servers.pop((service, server), None)
        else:
            self._servers[service, server] = admin

    def entries(self) -> Mapping[tuple[str, str], Admin]:
        """Return everything that was said, by service and server."""
        return self._servers

    def to_file(self) -> AdminFile:
        """Return what is to be written."""
        servers = [AdminEntry(service, server, admin) for (service, server), admin in sorted(self._servers.items())]
        named = {service for service, _ in self._servers}
        virtuals = {name: virtual for name, virtual in sorted(self._virtuals.items()) if name in named}
        return AdminFile(servers=servers, gaveaway=self.gaveaway, virtuals=virtuals)

    def locate(self, plan: Plan) -> None:
        """Note what the services of a plan have in the kernel, to know them again by another name."""
        names = {str(service.virtual.key): service.name for service in plan.services}
        kept = {name: virtual for name, virtual in self._virtuals.items() if virtual not in names}
        self._virtuals = kept | {name: virtual for virtual, name in names.items()}

    def names(self) -> Mapping[str, str]:
        """Return the services' names by what they have in the kernel, as far as that is known."""
        return {virtual: name for name, virtual in self._virtuals.items()}


def follow_renames(state: AdminState, plan: Plan) -> tuple[AdminState, list[str]]:
    """Return what an administrator said under the names of a plan, and a sentence for each service with another one.

    A service that has the same place in the kernel is the same: its drained servers must not come back because the
    file calls it otherwise.
    """
    names = state.names()
    renamed = {
        before: service.name
        for service in plan.services
        if (before := names.get(str(service.virtual.key), service.name)) != service.name
    }
    moved = AdminState(state.to_file())
    moved.locate(plan)
    for service, server in state.entries():
        if service in renamed:
            moved.set(service, server, Admin.NONE)
    told = []
    for (service, server), word in state.entries().items():
        if service in renamed:
            moved.set(renamed[service], server, word)
            told.append(f"service {renamed[service]}: {server} stays {word}, as it was when it was called {service}")
    return moved, told


def load_admin(path: Path) -> tuple[AdminState, str]:
    """Return the state in the file, and a sentence about what is wrong with it, "" when nothing is.

    A file that cannot be understood is kept as `.broken`, and the state is empty.
    """
    try:
        return read_admin(path), ""
    except FileNotFoundError:
        return AdminState(), ""
    except OSError as error:
        return AdminState(), f"{path} cannot be read ({error.strerror}): nothing counts as drained or disabled"
    except UNDECODABLE as error:
        aside = path.with_name(path.name + ".broken")
        with contextlib.suppress(OSError):
            path.replace(aside)
        return AdminState(), f"{path} is broken ({error}): nothing counts as drained or disabled; it is kept as {aside}"


def read_admin(path: Path) -> AdminState:
    """Return the state in the file. Raises OSError, or one of `UNDECODABLE`; leaves the file as it is."""
    with open(path, "rb") as file:
        data = file.read(SIZE_LIMIT + 1)
    if len(data) > SIZE_LIMIT:
        raise msgspec.DecodeError(f"longer than {SIZE_LIMIT} bytes")
    decoded = msgspec.json.decode(data, type=AdminFile)
    if decoded.version != VERSION:
        raise msgspec.DecodeError(f"version {decoded.version}, wanted {VERSION}")
    return AdminState(decoded)


def save_admin(path: Path, file: AdminFile) -> None:
    """Write the file so that it is there whole, or as it was, whatever happens. Waits for the disk.

    Raises OSError when it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = msgspec.json.format(msgspec.json.encode(file)) + b"\n"
    scratch = path.with_name(path.name + ".new")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        scratch.replace(path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
