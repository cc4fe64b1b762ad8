"""Prometheus's text format, version 0.0.4, in portions. Pure.

prometheus-client makes an object of every sample and takes ten times as long, in one piece; the tests read what is
made here with its parser, and with promtool.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, islice

from hawatch.agent.measures import HistogramNow
from hawatch.console.catalogue import CATALOGUE, Kind, Spec
from hawatch.console.collector import BOUNDS_US, US_PER_S, Families

LINES_PER_PORTION = 200
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def text(families: Families) -> Iterator[str]:
    """Yield the text, the metrics in the catalogue's order; each is forgotten as it is told."""
    known: dict[tuple[str, ...], dict[tuple[str, ...], str]] = {}
    """Labels as they are written: most metrics have those of another one."""
    for name, spec in CATALOGUE.items():
        if spec.kind is Kind.HISTOGRAM:
            lines = _histograms(spec, BOUNDS_US[name], families.histograms.pop(name))
        else:
            lines = _values(spec, families.values.pop(name), known.setdefault(spec.labels, {}))
        first = True
        while portion := list(islice(lines, LINES_PER_PORTION)):
            head = f"# HELP {spec.name} {spec.help}\n# TYPE {spec.name} {spec.kind}\n" if first else ""
            first = False
            yield head + "".join(portion)


def label_text(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    """Return labels as they are written between braces."""
    assert len(names) == len(values), (names, values)
    pairs = sorted(zip(names, values, strict=True))  # as prometheus-client does: people grep for it
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in pairs)


def _values(spec: Spec, values: dict[tuple[str, ...], float], known: dict[tuple[str, ...], str]) -> Iterator[str]:
    name = spec.name
    for labels, value in values.items():
        words = known.get(labels)
        if words is None:
            inner = label_text(spec.labels, labels)
            words = known[labels] = f"{{{inner}}} " if inner else " "
        yield f"{name}{words}{float(value)!r}\n"


def _histograms(
    spec: Spec, bounds_us: tuple[int, ...], rows: list[tuple[tuple[str, ...], HistogramNow]]
) -> Iterator[str]:
    bounds = [*(repr(bound / US_PER_S) for bound in bounds_us), "+Inf"]
    for labels, now in rows:
        inner = label_text(spec.labels, labels)
        begin, whole = f"{inner}," if inner else "", f"{{{inner}}}" if inner else ""
        counts = list(accumulate(now.counts))
        lines = [
            f'{spec.name}_bucket{{{begin}le="{bound}"}} {count}.0\n'
            for bound, count in zip(bounds, counts, strict=True)
        ]
        lines.append(f"{spec.name}_count{whole} {counts[-1]}.0\n{spec.name}_sum{whole} {now.sum_us / US_PER_S!r}\n")
        yield "".join(lines)
