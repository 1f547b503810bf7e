"""What a load test measured, and how it is written down."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True, slots=True)
class Level:
    """One level of the sweep: the latencies in microseconds, sorted, of requests that were answered."""

    concurrency: int
    seconds: float
    latencies_us: Sequence[float]
    batch: int = 1
    failures: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        """Inferences a second; a batch of 8 is 8 of them."""
        return len(self.latencies_us) * self.batch / self.seconds

    def percentile(self, of: int) -> float:
        """The latency that ``of`` percent of the requests did not exceed (nearest rank), in microseconds."""
        return self.latencies_us[max(0, math.ceil(of / 100 * len(self.latencies_us)) - 1)]


def as_csv(levels: Sequence[Level]) -> str:
    """The columns of ``perf_analyzer -f`` that were measured; ``tidewaiter gate`` takes it as evidence."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(["Concurrency", "Inferences/Second", *(f"p{one} latency" for one in PERCENTILES)])
    for level in levels:
        latencies = (f"{level.percentile(one):.0f}" for one in PERCENTILES)
        writer.writerow([level.concurrency, f"{level.rate:.2f}", *latencies])
    return target.getvalue()


def as_json(levels: Sequence[Level], about: dict[str, object]) -> str:
    """Everything, for machines; latencies in milliseconds."""
    document = {
        **about,
        "levels": [
            {
                "concurrency": level.concurrency,
                "requests": len(level.latencies_us),
                "seconds": round(level.seconds, 3),
                "inferences_per_second": round(level.rate, 2),
                "latency_ms": {f"p{one}": round(level.percentile(one) / 1000, 4) for one in PERCENTILES},
            }
            for level in levels
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def as_text(levels: Sequence[Level]) -> str:
    """A table for people."""
    lines = ["concurrency  requests  inferences/s    p50 ms    p90 ms    p95 ms    p99 ms"]
    for level in levels:
        latencies = "".join(f"{level.percentile(one) / 1000:10.3f}" for one in PERCENTILES)
        lines.append(f"{level.concurrency:11d}{len(level.latencies_us):10d}{level.rate:14.1f}{latencies}")
    return "\n".join(lines) + "\n"
