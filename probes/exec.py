"""The exec probe: any program as a probe, mon's monitors and Nagios' plug-ins among them."""

from __future__ import annotations

import os
import signal
import string
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from hawatch.faults import Fault, deadline_reason
from hawatch.model import NS_PER_MS, NS_PER_S
from hawatch.plugin import Attempt, Options, Probe, Result, Target, down
from hawatch.probes.processes import OUTPUT_LIMIT, Run, run_program
from hawatch.text import clean, cut

PLACEHOLDERS = ("address", "port", "service", "group")
GRACE_NS_MAX = 200 * NS_PER_MS
"""Time between SIGTERM and SIGKILL, taken from the end of the timeout, a tenth of it at most."""
LINES_SHOWN = 20
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NAGIOS_STATES = {0: "OK", 1: "WARNING", 2: "CRITICAL", 3: "UNKNOWN"}
LAST_OUTPUT_LIMIT = 4096


def _template(text: str) -> str:
    """Accept text in which nothing but the placeholders stands in braces."""
    if "\0" in text:
        raise ValueError("must not contain a NUL character")
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"{error}; write a brace itself twice") from error
    for _, name, format_spec, conversion in parts:
        if name is not None and (name not in PLACEHOLDERS or format_spec or conversion):
            accepted = ", ".join(f"{{{known}}}" for known in PLACEHOLDERS)
            raise ValueError(f'"{{{name}}}" is no placeholder; there are {accepted}; write a brace itself twice')
    return text


class ExecOptions(Options):
    """Options of the exec probe."""

    command: tuple[Annotated[str, AfterValidator(_template)], ...] = Field(
        min_length=1,
        max_length=100,
        description="absolute path of the program and its arguments, in which {address}, {port}, {service} and "
        "{group} are filled in; no shell looks at them",
    )
    style: Literal["plain", "mon", "nagios"] = Field(
        default="plain",
        description="plain: 0 is up; mon: a monitor of mon, given the address as its last argument; nagios: a Nagios "
        "plug-in, 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN",
    )
    warning_is_up: bool = Field(default=False, description="nagios: a WARNING counts as up")
    weight_from_status: bool = Field(
        default=False,
        description="plain: exit status 2 to 255 is up with weight 0 to 253, 0 up with the configured one, 1 down",
    )
    environment: Mapping[str, str] = Field(
        default_factory=dict, description="environment variables beside the few that every program gets"
    )

    @field_validator("command")
    @classmethod
    def _absolute(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value[0].startswith("/"):
            raise ValueError(f'"{value[0]}" must be an absolute path')
        if "{" in value[0]:
            raise ValueError("the program's path takes no placeholders")
        return value

    @field_validator("environment")
    @classmethod
    def _variables(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for name, text in value.items():
            if not name or "=" in name or "\0" in name + text:
                raise ValueError(f'"{name}" cannot be an environment variable')
        return value

    @model_validator(mode="after")
    def _whole(self) -> ExecOptions:
        if self.warning_is_up and self.style != "nagios":
            raise ValueError('warning_is_up needs style = "nagios"')
        if self.weight_from_status and self.style != "plain":
            raise ValueError('weight_from_status needs style = "plain"')
        return self


class ExecProbe(Probe):
    """Runs a program and takes its exit status for the result, its first line for the reason."""

    options_type: ClassVar[type[Options]] = ExecOptions
    port_optional: ClassVar[bool] = True
    per_service: ClassVar[bool] = True

    def __init__(self, options: Options, target: Target) -> None:
        super().__init__(options, target)
        assert isinstance(options, ExecOptions)
        self.exec = options
        self.name = Path(options.command[0]).name
        self.command = self._command()
        self.history: dict[str, str] = {}
        """What mon's monitors are told of earlier runs."""
        self.last_kind = ""

    def _command(self) -> list[str]:
        target = self.target
        values = {
            "address": target.address,
            "port": "" if target.port is None else str(target.port),
            "service": target.service,
            "group": target.group,
        }
        command = [part.format_map(values) for part in self.exec.command]
        return [*command, target.address] if self.exec.style == "mon" else command

    def environment(self) -> dict[str, str]:
        """Return all of the program's environment."""
        target = self.target
        common = {
            "PATH": SEARCH_PATH,
            "HOME": "/",
            "LANG": "C.UTF-8",
            "HAWATCH_ADDRESS": target.address,
            "HAWATCH_PORT": "" if target.port is None else str(target.port),
            "HAWATCH_SERVICE": target.service,
            "HAWATCH_GROUP": target.group,
        }
        if target.route is not None:
            common |= {
                "HAWATCH_SOURCE": " ".join(target.route.source),
                "HAWATCH_INTERFACE": target.route.interface,
                "HAWATCH_MARK": str(target.route.mark),
            }
        mon = {"MON_GROUP": target.group, "MON_SERVICE": target.service, **self.history}
        return {**common, **(mon if self.exec.style == "mon" else {}), **self.exec.environment}

    async def run(self, attempt: Attempt) -> Result:
        """Run the program once; SIGTERM shortly before the deadline, SIGKILL to all that is left at it."""
        attempt.waiting_for = f"exit of {self.name}"
        run = Run()
        grace_ns = min(GRACE_NS_MAX, attempt.timeout_ns // 10)
        try:
            await run_program(
                self.command,
                self.environment(),
                run,
                time_ns=attempt.timeout_ns - grace_ns,
                merge=self.exec.style == "mon",
            )
        except OSError as error:
            raise Fault(f"{self.command[0]} cannot be run: {os.strerror(error.errno or 0)}") from error
        result = self.judge(run, attempt.timeout_ns)
        if self.exec.style == "mon":
            self._remember(run, result, time.time_ns() // NS_PER_S)
        return result

    def judge(self, run: Run, timeout_ns: int) -> Result:
        """Return what a run amounts to."""
        lines = [clean(line) for line in (run.output or run.errors).decode("utf-8", "replace").splitlines()]
        detail = "\n".join(cut(line) for line in lines[:LINES_SHOWN])
        if run.terminated:
            return down(deadline_reason(f"exit of {self.name}", timeout_ns), detail)
        if run.too_much:
            return down(f"{self.name} wrote more than {OUTPUT_LIMIT} bytes and was killed", detail)
        if run.status is None or run.status < 0:
            return down(
                _with_text(f"{self.name} was killed by {signal_name(run.status)}", cut("".join(lines[:1]))), detail
            )
        if self.exec.style == "nagios":
            return self._judge_nagios(run.status, lines, detail)
        weight = run.status - 2 if self.exec.weight_from_status and run.status >= 2 else None
        if run.status == 0 or weight is not None:
            return Result(ok=True, detail=detail, weight=weight)
        return down(_with_text(f"exit status {run.status}", self._summary(lines)), detail)

    def _judge_nagios(self, status: int, lines: list[str], detail: str) -> Result:
        text = cut("".join(lines[:1]).partition("|")[0].strip())
        if status == 0 or (status == 1 and self.exec.warning_is_up):
            return Result(ok=True, detail=detail)
        state = NAGIOS_STATES.get(status, f"exit status {status}, which is no state of Nagios")
        return down(text if state in text else _with_text(state, text), detail)

    def _summary(self, lines: list[str]) -> str:
        """Return the first line; with mon, where it names the hosts only, the first line of its details too."""
        texts = [line for line in lines if line]
        if self.exec.style == "mon" and len(texts) > 1 and texts[0] == self.target.address:
            return cut(f"{texts[0]}: {texts[1]}")
        return cut("".join(texts[:1]))

    def _remember(self, run: Run, result: Result, wall_s: int) -> None:
        """Keep what mon would tell its monitor at the next run."""
        kind = "SUCCESS" if result.ok else "FAILURE"
        text = run.output[:LAST_OUTPUT_LIMIT].replace(b"\0", b"").decode("utf-8", "replace")
        self.history["MON_LAST_SUMMARY"], _, self.history["MON_LAST_OUTPUT"] = text.partition("\n")
        if kind != self.last_kind:
            self.history[f"MON_FIRST_{kind}"] = str(wall_s)
            self.last_kind = kind
        self.history[f"MON_LAST_{kind}"] = str(wall_s)


def _with_text(head: str, text: str) -> str:
    return f"{head}: {text}" if text else head


def signal_name(status: int | None) -> str:
    """Return the name of the signal in a negative exit status."""
    try:
        return signal.Signals(-(status or 0)).name
    except ValueError:
        return f"signal {-(status or 0)}"
