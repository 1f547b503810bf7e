"""What a review costs with the number of its pod's containers: ``python -m bench.containers``.

CPU time from the request's bytes to the answer's and the record, in this process, without
serving; Rego included. The last column says what one more container costs.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from admission.decision import Purpose
from admission.subject import MAX_CONTAINERS
from bench import in_process, server
from bench.reviews import pod, review

_SIZES = (1, 10, 100, MAX_CONTAINERS)
_LEAST_TURNS = 3


def of_containers(count: int, *, wrong: bool) -> dict[str, Any]:
    """The benchmark's pod with as many servers, as its author has it; ``wrong``: each breaks several rules."""
    obj = pod()
    [container] = obj["spec"]["containers"]
    if wrong:
        bad = {"privileged": True, "runAsUser": 0, "capabilities": {"add": ["SYS_ADMIN"]}}
        container = {**container, "image": "nvcr.io/nvidia/tritonserver:latest", "securityContext": bad}
    obj["spec"]["containers"] = [{**container, "name": f"{container['name']}-{number}"} for number in range(count)]
    return obj


def table(folder: Path, rounds: int, turns: int) -> Iterator[str]:
    """Markdown: medians of the rounds, in microseconds."""
    reviewer = in_process.reviewer(server.write_settings(folder))
    yield "| review | containers | bytes | us per review | us per container | us per further container |"
    yield "|---|---|---|---|---|---|"
    for label, purpose, wrong in (
        ("/mutate", Purpose.MUTATE, False),
        ("/validate", Purpose.VALIDATE, False),
        ("/validate, much wrong", Purpose.VALIDATE, True),
    ):
        before = (0, 0.0)
        for count in _SIZES:
            body = review(of_containers(count, wrong=wrong))
            path = f"/{purpose.value}"
            taken = max(turns // count, _LEAST_TURNS)
            used = median(
                asyncio.run(in_process.cpu_microseconds(reviewer, {path: body}, taken))[path] for _ in range(rounds)
            )
            further = (used - before[1]) / (count - before[0]) if before[0] else None
            before = (count, used)
            more = "" if further is None else f"{further:,.0f}"
            yield f"| {label} | {count} | {len(body):,} | {used:,.0f} | {used / count:,.0f} | {more} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.containers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds; the table has medians (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=500, help="reviews of one container (default: %(default)s)")
    options = parser.parse_args()
    print(f"Python {sys.version.split()[0]}; medians of {options.rounds} rounds.")
    with tempfile.TemporaryDirectory(prefix="tidewaiter-bench-") as scratch:
        for line in table(Path(scratch), options.rounds, options.turns):
            print(line, flush=True)


if __name__ == "__main__":
    main()
