"""What one run of preload leaves for Prometheus, as a text file (node exporter's or any sidecar's format)."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tidewaiter_runtime.preload.ranged_download import written


@dataclass(slots=True)
class Tally:
    """Counted by several threads."""

    retries: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def retried(self) -> None:
        """A part, or a listing, is asked for again."""
        with self._lock:
            self.retries += 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended; ``exit_code`` 0 is success. ``origin`` is source, cache or destination (it was there)."""

    scheme: str
    exit_code: int
    size: int
    seconds: float
    retries: int
    origin: str = ""
    verified: bool = False


def exposition(outcome: Outcome, now: float) -> str:
    """The text, with all values as gauges: each run is a process of its own."""
    labels = f'scheme="{outcome.scheme}"'
    rows = [
        ("success", "1 where the model is there, else 0.", labels, float(outcome.exit_code == 0)),
        ("exit_code", "The exit code; docs/preload.md lists them.", labels, outcome.exit_code),
        ("verified", "1 where a digest or a signature was verified.", labels, float(outcome.verified)),
        ("model_bytes", "Size of the model.", labels, outcome.size),
        ("duration_seconds", "From start to end.", labels, round(outcome.seconds, 3)),
        ("retries", "How often something was asked for again.", labels, outcome.retries),
        ("finished_timestamp_seconds", "When it ended.", labels, round(now, 3)),
    ]
    if outcome.origin:
        where = f'{labels},origin="{outcome.origin}"'
        rows.append(("origin", "Where the bytes came from: source, cache or destination.", where, 1))
    return "".join(
        f"# HELP tidewaiter_preload_{name} {told}\n# TYPE tidewaiter_preload_{name} gauge\n"
        f"tidewaiter_preload_{name}{{{inside}}} {value:.15g}\n"
        for name, told, inside, value in rows
    )


def write_metrics(path: Path, outcome: Outcome) -> None:
    """Write the file in one step: a reader never sees half of it."""
    with written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(f".{path.name}.new")
        staged.write_text(exposition(outcome, time.time()))
        staged.replace(path)
