"""Prints what Rego costs per review: ``python -m bench.policies``.

Rules are generated in the manner of those that ship (a registry, a label, a limit, a host
port, a name), and evaluated in process, in the child and, with --opa, by an OPA server.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from admission.validator import RuleFailure
from webhook.rego.child_engine import ChildEngine, ChildLimits
from webhook.rego.combined_engine import Engine
from webhook.rego.embedded_engine import EmbeddedEngine
from webhook.rego.opa_client import OpaServer
from webhook.rego.opa_engine import OpaEngine, OpaLimits
from webhook.rego.policy_set import PolicySet, policy_set

_READY_SECONDS = 30
_BODIES = (
    """
findings contains finding if {
	some container in input.containers
	not allowed(container.image)
	finding := {"path": sprintf("%s.image", [container.path]), "message": sprintf("image %s", [container.image])}
}

allowed(image) if {
	some prefix in data.settings.bench.registries
	startswith(image, prefix)
}
""",
    """
findings contains finding if {
	some key in data.settings.bench.labels
	not input.labels[key]
	finding := {"path": "metadata.labels", "message": sprintf("label %s is missing", [key])}
}
""",
    """
findings contains finding if {
	some container in input.containers
	container.kind == "containers"
	not container.resources.limits.memory
	finding := {"path": sprintf("%s.resources.limits", [container.path]), "message": "no memory limit is set"}
}
""",
    """
findings contains finding if {
	some container in input.containers
	some port in container.ports
	port.hostPort > 0
	finding := {"path": sprintf("%s.ports", [container.path]), "message": sprintf("host port %d", [port.hostPort])}
}
""",
    """
findings contains finding if {
	some container in input.containers
	not regex.match(`^[a-z][a-z0-9-]*$`, container.name)
	finding := {"path": container.path, "message": sprintf("name %s is not allowed", [container.name])}
}
""",
)  # fmt: skip
_DATA = {"settings": {"bench": {"registries": ["docker.io/", "ghcr.io/", "nvcr.io/"], "labels": ["team", "project"]}}}


def _input() -> dict[str, Any]:
    """A pod of two containers that breaks no rule, as most do."""
    container = {
        "image": "nvcr.io/nvidia/tritonserver@sha256:" + "a" * 64,
        "ports": [{"containerPort": 8000 + number, "protocol": "TCP"} for number in range(3)],
        "resources": {"limits": {"memory": "16Gi", "cpu": "4", "nvidia.com/gpu": "1"}, "requests": {"memory": "16Gi"}},
    }
    return {
        "operation": "CREATE", "namespace": "models", "environment": "production", "workload": "inference",
        "username": "system:serviceaccount:kube-system:replicaset-controller",
        "groups": ["system:serviceaccounts", "system:authenticated"],
        "labels": {"team": "fraud", "project": "cards", "app": "resnet50", "tidewaiter.dev/model": "resnet50"},
        "annotations": {"tidewaiter.dev/model-uri": "s3://models/resnet50/3"},
        "containers": [
            {**container, "kind": "containers", "path": f"spec.containers[{number}]", "name": f"server-{number}"}
            for number in range(2)
        ],
        "spec": {"serviceAccountName": "default", "volumes": []},
        "model": {"name": "resnet50", "version": "3", "uri": "s3://models/resnet50/3"},
    }  # fmt: skip


def generated_rules(number: int) -> dict[str, bytes]:
    """Files of a policy folder with ``number`` rules."""

    def one(index: int) -> bytes:
        head = f"# METADATA\n# title: Rule {index}\n# description: Generated.\n# custom:\n#   id: rule-{index}\n"
        return f"{head}package tidewaiter.rule_{index}\n{_BODIES[index % len(_BODIES)]}".encode()

    return {
        **{f"rule_{index}.rego": one(index) for index in range(number)},
        "data.yaml": yaml.safe_dump(_DATA).encode(),
    }


async def microseconds(engine: Engine, turns: int) -> list[float]:
    """How long each of ``turns`` reviews takes, one after the other."""
    given = _input()
    for _ in range(turns // 10):
        answers = await engine.evaluate(given)
        failed = [one.reason for one in answers.values() if isinstance(one, RuleFailure)]
        if failed:
            sys.exit(failed[0])
    found = []
    for _ in range(turns):
        started = time.perf_counter()
        await engine.evaluate(given)
        found.append((time.perf_counter() - started) * 1e6)
    return found


@contextlib.asynccontextmanager
async def _child(policies: PolicySet) -> AsyncIterator[ChildEngine]:
    engine = ChildEngine(policies, limits=ChildLimits(rule_seconds=5, review_seconds=10))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


@contextlib.contextmanager
def _server(program: Path, files: dict[str, bytes]) -> Iterator[str]:
    """An OPA with the policies; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        command = [str(program), "run", "--server", "--addr", address, "--log-level", "error", "--bundle", folder]
        quiet = subprocess.DEVNULL
        with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet) as server:
            try:
                yield f"http://{address}"
            finally:
                server.terminate()


@contextlib.asynccontextmanager
async def _opa(program: Path, policies: PolicySet, files: dict[str, bytes]) -> AsyncIterator[OpaEngine]:
    with _server(program, files) as url:
        engine = OpaEngine(policies, OpaServer(url), limits=OpaLimits(10, 10_000))
        try:
            await _answering(engine)
            yield engine
        finally:
            await engine.close()


async def _answering(engine: OpaEngine) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while any(isinstance(one, RuleFailure) for one in (await engine.evaluate(_input())).values()):
        if time.monotonic() > deadline:
            sys.exit(f"OPA was not ready within {_READY_SECONDS} s: {engine.problem}")
        await asyncio.sleep(0.05)


def row(number: int, name: str, times: Sequence[float]) -> str:
    """A row of the table: median and 99th percentile."""
    ordered = sorted(times)
    p99 = ordered[int(len(ordered) * 0.99)]
    return f"| {number} | {name} | {statistics.median(times):,.0f} | {p99:,.0f} |"


async def _measure(numbers: Sequence[int], turns: int, opa: Path | None) -> None:
    print("| rules | engine | median, us | p99, us |\n|---:|---|---:|---:|")
    for number in numbers:
        files = generated_rules(number)
        policies = policy_set("bench", files)
        print(row(number, "in process", await microseconds(EmbeddedEngine(policies), turns)))
        async with _child(policies) as child:
            print(row(number, "child process", await microseconds(child, turns)))
        if opa is not None:
            async with _opa(opa, policies, files) as engine:
                print(row(number, "OPA server", await microseconds(engine, turns)))
    silent = policy_set(
        "bench", {"a.rego": generated_rules(1)["rule_0.rego"].replace(b"some container", b"false\n\tsome container")}
    )
    async with _child(silent) as child:
        print(row(0, "round trip to the child alone", await microseconds(child, turns)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.policies", description=__doc__)
    parser.add_argument("--turns", type=int, default=2_000, help="reviews for each row (default: %(default)s)")
    parser.add_argument("--rules", type=int, nargs="+", default=[5, 50, 200], help="numbers of rules")
    parser.add_argument("--opa", type=Path, help="the opa program, to measure a server too")
    options = parser.parse_args()
    asyncio.run(_measure(options.rules, options.turns, options.opa))


if __name__ == "__main__":
    main()
