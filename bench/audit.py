"""What decision records cost: ``python -m bench.audit [RECORDS]``.

Generated decisions of reviews of the sample pod go through the trail into a SQLite file; then
pages are searched for, and the file is verified.
"""

from __future__ import annotations

import io
import random
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from admission.admission_review import AdmissionRequest, GroupVersionKind, UserInfo
from admission.decision import Decision, Injection, Purpose
from admission.finding import Action, Finding, JudgedFinding
from admission.model_reference import ModelReference
from audit.checkpoint import key_name
from audit.record import decision_record
from audit.selection import Selection
from audit.settings import AuditSettings
from audit.sqlite_records import SqliteRecords
from audit.trail import open_trail
from audit.verification import verify

_START = datetime(2026, 1, 1, tzinfo=UTC)
_RULES = ("image-pinned", "gpu-limits", "approved-version", "cost-labels", "deploy-permission", "read-only-root")
_SEARCHES = 200
_AT_ONCE = 5000


def main() -> None:
    """Print the figures."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory(prefix="tidewaiter-bench-") as folder:
        path, key_file = Path(folder) / "audit.db", Path(folder) / "key.pem"
        key = Ed25519PrivateKey.generate()
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        output = io.BytesIO()
        drops: list[int] = []
        settings = AuditSettings(path=path, signing_key=key_file, queue_records=10_000)
        trail = open_trail(settings, output, lambda: drops.append(1))
        calls = seconds = cpu = 0.0
        for first in range(0, number, _AT_ONCE):
            indices = range(first, min(first + _AT_ONCE, number))
            records = [generated(random.Random(index), index) for index in indices]  # noqa: S311  # the same each time
            started, started_cpu = time.perf_counter(), time.process_time()
            for record in records:
                trail.write(record)
            calls += time.perf_counter() - started
            while trail.waiting:
                time.sleep(0.001)
            seconds += time.perf_counter() - started
            cpu += time.process_time() - started_cpu
        started, started_cpu = time.perf_counter(), time.process_time()
        trail.close(600)
        seconds += time.perf_counter() - started
        cpu += time.process_time() - started_cpu
        lines, size = output.getvalue(), path.stat().st_size
        print(f"{number} records, {len(drops)} dropped")
        print(f"the review's own part: {calls / number * 1e6:.2f} us a record")
        print(
            f"sealed, written, stored: {number / seconds:,.0f} records/s, {cpu / number * 1e6:.0f} us of CPU a record"
        )
        print(f"bytes a record: {len(lines) / number:.0f} as JSON, {size / number:.0f} in the file")
        found = SqliteRecords(path)
        _print_searches(found)
        started, started_cpu = time.perf_counter(), time.process_time()
        verified = verify(found.entries(), {key_name(key.public_key()): key.public_key()}, whole=True, uncovered=1000)
        assert not verified.all_problems, verified.all_problems
        spent = time.process_time() - started_cpu
        print(f"verify: {time.perf_counter() - started:.1f} s, {spent:.1f} s of CPU, {verified.signatures} signatures")
        found.close()


def _print_searches(records: SqliteRecords) -> None:
    chance = random.Random(1)  # noqa: S311
    makers: dict[str, Callable[[], Selection]] = {
        "namespace, verdict": lambda: Selection(namespace=f"team-{chance.randrange(40)}", verdict="denied"),
        "rule, a day": lambda: Selection(rule=chance.choice(_RULES), since=_START, until=_START + timedelta(days=1)),
        "model": lambda: Selection(model=f"model-{chance.randrange(200)}"),
        "user, rule": lambda: Selection(user=f"user-{chance.randrange(100)}", rule=chance.choice(_RULES)),
        "text that nothing has": lambda: Selection(namespace=f"team-{chance.randrange(40)}", text="not there"),
    }
    for name, make in makers.items():
        times = []
        for _ in range(_SEARCHES if "text" not in name else 10):
            selection, started = make(), time.perf_counter()
            records.search(selection, 100)
            times.append(time.perf_counter() - started)
        times.sort()
        print(f"search {name}: p95 {times[int(len(times) * 0.95)] * 1000:.1f} ms (a page of 100)")


def generated(chance: random.Random, index: int) -> dict[str, Any]:
    """One record as reviews make them; one in five is a denial, one in three a mutation."""
    kind = chance.random()
    denied, mutated = kind < 0.2, kind > 0.66
    findings = tuple(
        JudgedFinding(
            Finding(
                rule,
                f"spec.containers[{chance.randrange(3)}]",
                f'container "{chance.choice(("main", "server", "sidecar"))}" has value {chance.randrange(10**6)} here',
                "set what the rule asks for, or ask for an exception",
                "main",
            ),
            Action.DENY if denied else Action.WARN,
        )
        for rule in chance.sample(_RULES, chance.randrange(1, 4) if denied else chance.randrange(2))
    )
    limits = {"limits": {"cpu": str(chance.randrange(1, 32)), "memory": "16Gi", "nvidia.com/gpu": "1"}}
    name = f"model-{chance.randrange(200)}"
    decision = Decision(
        uid=f"{chance.getrandbits(32):08x}-{chance.getrandbits(16):04x}-4000-8000-{chance.getrandbits(48):012x}",
        purpose=Purpose.MUTATE if mutated else Purpose.VALIDATE,
        allowed=not denied,
        recognised=chance.choice(("triton", "vllm", "torchserve")),
        environment=chance.choice(("production", "staging", "development")),
        workload="inference",
        model=ModelReference(name, str(chance.randrange(9)), f"s3://models/{name}"),
        digest=f"sha256:{chance.getrandbits(256):064x}",
        findings=findings,
        injections=(Injection("gpu-scheduling", ("add a toleration for nvidia.com/gpu", "set the pool to inference")),)
        if mutated
        else (),
        patch=(
            {"op": "add", "path": "/spec/containers/0/resources", "value": limits},
            {"op": "add", "path": "/spec/tolerations", "value": [{"key": "nvidia.com/gpu", "operator": "Exists"}]},
            {"op": "add", "path": "/spec/securityContext", "value": {"runAsNonRoot": True}},
        )
        if mutated
        else (),
    )
    request = AdmissionRequest(
        uid=decision.uid,
        kind=GroupVersionKind(group="", version="v1", kind="Pod"),
        operation="CREATE",
        namespace=f"team-{chance.randrange(40)}",
        userInfo=UserInfo(username=f"user-{chance.randrange(100)}", groups=["developers", "system:authenticated"]),
        object={"metadata": {"generateName": f"{name}-{chance.getrandbits(40):010x}-"}},
    )
    now = _START + timedelta(seconds=index * 30)
    return decision_record(decision, request, now, chance.random() / 500, f"{7:016x}")


if __name__ == "__main__":
    main()
