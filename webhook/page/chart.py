"""A chart of verdicts over time: numbers to rectangles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

WIDTH, HEIGHT = 960, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 2, 8, 22
STACK = ("denied", "error", "warned", "mutated", "allowed", "ignored")
"""From the bottom up: what somebody has to look at stands on the ground."""
_STEPS = (60, 300, 900, 1800, 3600, 10800, 21600, 43200, 86400, 7 * 86400, 30 * 86400, 365 * 86400)
_MOST_BARS = 60


@dataclass(frozen=True, slots=True)
class Spans:
    """Equal spans of time: the first begins at ``first``; milliseconds."""

    first: int
    step: int
    count: int

    def begin(self, index: int) -> datetime:
        """When a span begins."""
        return datetime.fromtimestamp((self.first + index * self.step) / 1000, UTC)


@dataclass(frozen=True, slots=True)
class Bar:
    """One rectangle, in the chart's own units."""

    verdict: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Column:
    """What happened in one span."""

    begin: datetime
    end: datetime
    x: float
    width: float
    bars: tuple[Bar, ...]
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Chart:
    """Columns, lines of the scale (where and what) and marks of time."""

    columns: tuple[Column, ...]
    scale: tuple[tuple[float, str], ...]
    marks: tuple[tuple[float, str], ...]
    total: int


def spans(since: datetime, until: datetime) -> Spans:
    """At most 60 spans of a round length that hold all of a time."""
    seconds = max(60.0, (until - since).total_seconds())
    step = next((one for one in _STEPS if seconds / one <= _MOST_BARS - 1), _STEPS[-1])
    first = int(since.timestamp()) // step * step
    return Spans(first * 1000, step * 1000, min(4 * _MOST_BARS, int((until.timestamp() - first) // step) + 1))


def chart(counts: Mapping[str, Sequence[int]], over: Spans) -> Chart:
    """The chart of counts by verdict and span."""
    sums = [sum(counts[verdict][index] for verdict in STACK) for index in range(over.count)]
    top = _round_up(max(sums, default=0))
    high = HEIGHT - _TOP - _BOTTOM
    each = (WIDTH - _LEFT - _RIGHT) / over.count
    gap = min(3.0, each * 0.2)
    columns = tuple(_columns(counts, over, each, gap, high / top))
    scale = tuple((round(_TOP + high * (1 - part), 1), _short(int(top * part))) for part in (0, 0.5, 1))
    every = max(1, over.count // 6)
    marks = tuple(
        (round(_LEFT + index * each, 1), _mark(over, index)) for index in range(0, over.count - every // 2, every)
    )
    return Chart(columns, scale, marks, sum(sums))


def _columns(
    counts: Mapping[str, Sequence[int]], over: Spans, each: float, gap: float, unit: float
) -> Iterator[Column]:
    for index in range(over.count):
        x, y = round(_LEFT + index * each, 2), float(HEIGHT - _BOTTOM)
        here = {verdict: counts[verdict][index] for verdict in STACK if counts[verdict][index]}
        bars = []
        for verdict, number in here.items():
            # One refusal among ten thousand reviews is still to be seen.
            height = max(2.0, number * unit)
            y -= height
            bars.append(Bar(verdict, x, round(max(0, y), 2), round(each - gap, 2), round(height, 2)))
        begin = over.begin(index)
        yield Column(begin, begin + timedelta(milliseconds=over.step), x, round(each, 2), tuple(bars), here)


def _round_up(number: int) -> int:
    if number <= 4:
        return 4
    size = 10 ** (len(str(number)) - 1)
    return next(int(size * one) for one in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if size * one >= number)


def _short(number: int) -> str:
    return f"{number / 1000:g}k" if number >= 1000 else str(number)


def _mark(over: Spans, index: int) -> str:
    begin = over.begin(index)
    if over.step * over.count <= 2 * 86_400_000:
        return f"{begin:%H:%M}"
    return f"{begin:%d %b}" if over.step * over.count <= 400 * 86_400_000 else f"{begin:%b %Y}"
