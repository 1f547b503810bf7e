"""Prints what Gatekeeper needs for the same rules: ``python -m bench.gatekeeper --gator PATH``.

``gator bench`` runs Gatekeeper's own engine in process, as ``EmbeddedEngine`` runs ours; neither
serves. Two ways of writing the rules: by hand, as a Gatekeeper user would (it reads
``input.review.object`` and nothing is translated), and by ``tidewaiter policy export``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from bench.policies import generated_rules, microseconds, row
from webhook.rego.embedded_engine import EmbeddedEngine
from webhook.rego.gatekeeper import constraint, template
from webhook.rego.policy_set import PolicyModule, PolicySet, policy_set

_LIMIT_SECONDS = 300
_BY_HAND = (
    """
violation contains {"msg": message} if {
	some index, container in input.review.object.spec.containers
	not allowed(container.image)
	message := sprintf("spec.containers[%d].image: image %s", [index, container.image])
}

allowed(image) if {
	some prefix in ["docker.io/", "ghcr.io/", "nvcr.io/"]
	startswith(image, prefix)
}
""",
    """
violation contains {"msg": message} if {
	some key in ["team", "project"]
	not input.review.object.metadata.labels[key]
	message := sprintf("metadata.labels: label %s is missing", [key])
}
""",
    """
violation contains {"msg": message} if {
	some index, container in input.review.object.spec.containers
	not container.resources.limits.memory
	message := sprintf("spec.containers[%d].resources.limits: no memory limit is set", [index])
}
""",
    """
violation contains {"msg": message} if {
	some index, container in input.review.object.spec.containers
	some port in container.ports
	port.hostPort > 0
	message := sprintf("spec.containers[%d].ports: host port %d", [index, port.hostPort])
}
""",
    """
violation contains {"msg": message} if {
	some index, container in input.review.object.spec.containers
	not regex.match(`^[a-z][a-z0-9-]*$`, container.name)
	message := sprintf("spec.containers[%d]: name %s is not allowed", [index, container.name])
}
""",
)
"""The bodies of ``bench.policies``, for Gatekeeper's input."""


def _pod() -> dict[str, Any]:
    """The pod of ``bench.policies`` as a manifest."""
    limits = {"memory": "16Gi", "cpu": "4", "nvidia.com/gpu": "1"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "resnet50",
            "namespace": "models",
            "labels": {"team": "fraud", "project": "cards", "app": "resnet50", "tidewaiter.dev/model": "resnet50"},
            "annotations": {"tidewaiter.dev/model-uri": "s3://models/resnet50/3"},
        },
        "spec": {
            "serviceAccountName": "default",
            "containers": [
                {
                    "name": f"server-{number}",
                    "image": "nvcr.io/nvidia/tritonserver@sha256:" + "a" * 64,
                    "ports": [{"containerPort": 8000 + port, "protocol": "TCP"} for port in range(3)],
                    "resources": {"limits": limits, "requests": {"memory": "16Gi"}},
                }
                for number in range(2)
            ],
        },
    }


def _by_hand(policies: PolicySet, module: PolicyModule, index: int) -> dict[str, Any]:
    made = template(policies, module)
    name = made["metadata"]["name"]
    source = {"version": "v1", "rego": f"package {name}\n{_BY_HAND[index % len(_BY_HAND)]}"}
    made["spec"]["targets"][0]["code"][0]["source"] = source
    return made


def _gator(program: Path, documents: Iterable[dict[str, Any]], turns: int) -> tuple[float, float]:
    """Median and 99th percentile in microseconds of one review."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "all.yaml").write_text(yaml.safe_dump_all(documents), encoding="utf-8")
        command = [str(program), "bench", "--filename", folder, "--engine", "rego", "--output", "json"]
        done = subprocess.run(
            [*command, "--iterations", str(turns), "--warmup", str(turns // 10)],
            capture_output=True,
            text=True,
            timeout=_LIMIT_SECONDS,
            check=False,
        )
    if done.returncode:
        sys.exit(f"gator bench failed: {done.stderr.strip() or done.stdout.strip()}")
    (found,) = json.loads(done.stdout)
    if found["violationCount"]:
        sys.exit(f"gator finds {found['violationCount']} violations in a pod that has none")
    return _of_duration(found["latencies"]["p50"]), _of_duration(found["latencies"]["p99"])


def _of_duration(text: str) -> float:
    """Microseconds of a Go duration below a minute."""
    number, unit = re.fullmatch(r"([\d.]+)(\D+)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"ns": 1e-3, "µs": 1, "ms": 1e3, "s": 1e6}[unit]


def _measure(program: Path, numbers: Iterable[int], turns: int) -> None:
    print("| rules | engine | median, us | p99, us |\n|---:|---|---:|---:|")
    ways: dict[str, Callable[[PolicySet, PolicyModule, int], dict[str, Any]]] = {
        "Gatekeeper, rules written for it": _by_hand,
        "Gatekeeper, rules exported": lambda policies, module, _: template(policies, module),
    }
    for number in numbers:
        policies = policy_set("bench", generated_rules(number))
        times = asyncio.run(microseconds(EmbeddedEngine(policies), turns))
        print(row(number, "Tidewaiter, in process", times))
        for name, written in ways.items():
            documents = [_pod()]
            for index, module in enumerate(one for one in policies.modules if one.rule is not None):
                documents += [written(policies, module, index), constraint(module, "deny")]
            median, p99 = _gator(program, documents, turns)
            print(f"| {number} | {name} | {median:,.0f} | {p99:,.0f} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.gatekeeper", description=__doc__)
    parser.add_argument("--gator", type=Path, required=True, help="the gator program")
    parser.add_argument("--turns", type=int, default=2_000, help="reviews for each row (default: %(default)s)")
    parser.add_argument("--rules", type=int, nargs="+", default=[5, 50, 200], help="numbers of rules")
    options = parser.parse_args()
    _measure(options.gator, options.rules, options.turns)


if __name__ == "__main__":
    main()
