"""What 10,000 model versions cost in the ``cluster`` registry: memory, taking them in, looking one up.

Run as ``python -m bench.model_versions``. The objects arrive as the watch has them, one page
of JSON after the other.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import orjson

from admission.approval import Approval, NotFound
from registries.cluster import ClusterRegistry
from registries.model_version import object_name

_PAGE = 500
_VERSIONS_EACH = 20
_LOOKUPS = 100_000
_ROUNDS = 5


def _object(number: int) -> dict[str, Any]:
    """A version with evidence, lineage and three approvals, as one is stored."""
    model, version = f"team-{number % 37}/model-{number // _VERSIONS_EACH}", str(number % _VERSIONS_EACH)
    time_of = "2026-06-01T12:00:00Z"
    approvals = [
        {"environment": environment, "approver": approver, "state": "approved", "at": time_of, "reason": "evaluated",
         "expires": "2027-06-01T12:00:00Z"}
        for environment, approver in (("staging", "sam"), ("production", "ada"), ("production", "tom"))
    ]  # fmt: skip
    return {
        "apiVersion": "tidewaiter.dev/v1alpha1",
        "kind": "ModelVersion",
        "metadata": {"name": object_name(model, version), "uid": f"{number:032x}", "resourceVersion": str(number)},
        "spec": {
            "model": model,
            "version": version,
            "source": f"s3://models/{model}/{version}",
            "digest": f"sha256:{number:064x}",
            "proposedBy": f"developer-{number % 50}",
            "lineage": {"trainingRun": f"run-{number}", "dataVersion": "2026-05", "commit": f"{number:040x}"},
            "evidence": {"evaluation": [{"metric": "accuracy", "value": 0.93, "atLeast": 0.9}]},
        },
        "status": {"state": "approved", "environments": ["production", "staging"], "approvals": approvals},
    }


def _pages(count: int) -> Iterator[bytes]:
    for first in range(0, count, _PAGE):
        yield orjson.dumps({"items": [_object(number) for number in range(first, min(count, first + _PAGE))]})


def _filled(pages: list[bytes]) -> ClusterRegistry:
    registry = ClusterRegistry({"production": 2})
    names: set[str] = set()
    for page in pages:
        for obj in orjson.loads(page)["items"]:
            registry.put(obj)
            names.add(obj["metadata"]["name"])
    registry.keep_only(names)
    return registry


def _kept_bytes(pages: list[bytes]) -> int:
    gc.collect()
    tracemalloc.start()
    registry = _filled(pages)
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(registry)
    return kept


def _microseconds(registry: ClusterRegistry, model: str, version: str, wanted: type) -> float:
    assert isinstance(registry.lookup(model, version, "production"), wanted)
    started = time.process_time()
    for _ in range(_LOOKUPS):
        registry.lookup(model, version, "production")
    return (time.process_time() - started) / _LOOKUPS * 1e6


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--versions", type=int, default=10_000)
    count = parser.parse_args().versions
    pages = list(_pages(count))
    taken: list[float] = []
    for _ in range(_ROUNDS):
        started = time.process_time()
        registry = _filled(pages)
        taken.append(time.process_time() - started)
    last = _object(count - 1)["spec"]
    known = [_microseconds(registry, last["model"], last["version"], Approval) for _ in range(_ROUNDS)]
    unknown = [_microseconds(registry, last["model"], "none", NotFound) for _ in range(_ROUNDS)]
    one = orjson.loads(orjson.dumps(_object(count - 1)))
    started = time.process_time()
    for _ in range(1000):
        registry.put(one)
    put = (time.process_time() - started) * 1000
    print(f"Python {sys.version.split()[0]}; {count} versions, {sum(map(len, pages)) / count:.0f} bytes each as JSON;")
    print(f"medians of {_ROUNDS} rounds, CPU time.")
    print("| what | figure |")
    print("|---|---|")
    print(f"| memory kept, MiB | {_kept_bytes(pages) / 2**20:.1f} |")
    print(f"| taking all in, JSON included, s | {statistics.median(taken):.2f} |")
    print(f"| one change, us | {put:.1f} |")
    print(f"| lookup of a known version, us | {statistics.median(known):.2f} |")
    print(f"| lookup of an unknown one among {_VERSIONS_EACH}, us | {statistics.median(unknown):.2f} |")


if __name__ == "__main__":
    main()
