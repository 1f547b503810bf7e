"""A log with a story: two teams, a model that went to production, and a rule that only warns yet.

Everything of namespace `bravo` says so in every field: a reader of `alpha` must never meet the word.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from admission.admission_review import AdmissionRequest
from admission.approval import Answered, Approval, ApprovalState
from admission.decision import Decision, Injection, Purpose
from admission.finding import Action, Finding, JudgedFinding
from admission.model_reference import ModelReference
from audit.chain import Chain, Entry
from audit.checkpoint import INTERVAL, Reach, Signer
from audit.record import decision_record
from audit.sqlite_store import SqliteStore
from tests.audit.sealed import KEY
from tests.kernel import request
from webhook.governance.record import governance_record

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DIGEST = "sha256:" + "ab" * 32
PINNED = "name the image by digest: registry.example.com/triton@sha256:..."
REFUSED = 'image "registry.example.com/triton:latest" is not pinned by digest'
LETTERS = "bdfghj"
_HOUR = timedelta(hours=1)


def log() -> list[Entry]:
    """Records of one process in their order, with a signed checkpoint before the last three."""
    chain, entries = Chain("tidewaiter-0/f00d"), []
    made = sorted(_records(), key=lambda one: str(one["time"]))
    for number, record in enumerate(made, 1):
        entries.append(chain.seal(record))
        if number == len(made) - 3:
            entries.append(Signer(KEY).sign(Reach(chain.replica, number, chain.last), INTERVAL, NOW))
    return entries


def stored(path: Path) -> Path:
    """The log as a SQLite file."""
    store = SqliteStore(path)
    store.append(log())
    store.close()
    return path


def _records() -> Iterator[dict[str, Any]]:
    yield from _approvals()
    for number in range(6):
        yield _pod("alpha", "resnet50", "7", f"resnet50-6f7c8d9b4f-x7k2{LETTERS[number]}", hours=20 - number, user="deployer",
                   approvers=("ada", "tom"), patch=number == 0, uid=f"uid-served-{number}")  # fmt: skip
    yield _pod("alpha", "resnet50", "8", "resnet50-canary", hours=3, user="mia", denied=True, state="proposed",
               uid="uid-refused")  # fmt: skip
    yield _pod("alpha", "bert", "2", "bert-5c9f7b6d8-abcde", hours=9, user="deployer", approvers=("ada",))
    for number in range(4):
        yield _pod("bravo", "bravo-llm", "1", f"bravo-server-7d8f9c6b5d-x7k2{LETTERS[number]}", hours=8 - number,
                   user="bravo-user", warned=True, approvers=("bravo-approver",))  # fmt: skip
    yield _pod("alpha", "resnet50", "7", "resnet50-old", hours=2, user="mia", warned=True, approvers=("ada", "tom"))
    yield _pod("bravo", "resnet50", "7", "bravo-shared", hours=6, user="bravo-user", denied=True, state="approved",
               approvers=("bravo-approver",), uid="uid-bravo")  # fmt: skip


def _approvals() -> Iterator[dict[str, Any]]:
    for user, model, version, reason, days in (
        ("ada", "resnet50", "7", "evaluation passed", 3),
        ("tom", "resnet50", "7", "seen with ada", 2),
        ("ada", "bert", "2", "small change", 2),
        ("bravo-approver", "bravo-llm", "1", "bravo wants it", 4),
    ):
        spec = {"model": model, "version": version, "digest": DIGEST, "proposedBy": "pipeline"}
        approval = {"environment": "production", "approver": user, "state": "approved", "reason": reason}
        asked = AdmissionRequest.model_validate(
            {
                "uid": f"uid-{user}-{model}",
                "kind": {"group": "tidewaiter.dev", "version": "v1alpha1", "kind": "ModelVersion"},
                "name": f"{model}-{version}",
                "operation": "UPDATE",
                "subResource": "status",
                "userInfo": {"username": user, "groups": ["approvers"]},
                "object": {"spec": spec, "status": {"approvals": [approval]}},
                "oldObject": {"spec": spec},
            }
        )
        yield governance_record(asked, Purpose.VALIDATE, (), "", NOW - timedelta(days=days), 0.001)


def _pod(
    namespace: str,
    model: str,
    version: str,
    name: str,
    *,
    hours: float,
    user: str,
    denied: bool = False,
    warned: bool = False,
    patch: bool = False,
    state: str = "approved",
    approvers: tuple[str, ...] = (),
    uid: str = "",
) -> dict[str, Any]:
    said = REFUSED if namespace == "alpha" else "bravo runs an image that is not pinned"
    finding = JudgedFinding(
        Finding("image-pinned", "spec.containers[0].image", said, PINNED, "triton"),
        Action.DENY if denied else Action.WARN,
    )
    approval = Approval(model, version, ApprovalState(state), approvers=approvers)
    decision = Decision(
        uid=uid or f"uid-{namespace}-{name}",
        purpose=Purpose.MUTATE if patch else Purpose.VALIDATE,
        allowed=not denied,
        recognised="triton",
        environment="production",
        workload="inference",
        model=ModelReference(model, version, f"s3://models/{model}/{version}"),
        digest=DIGEST,
        answered=Answered(approval, registry="file"),
        findings=(finding,) if denied or warned else (),
        injections=(Injection("gpu-scheduling", ("tolerate nvidia.com/gpu",)),) if patch else (),
        patch=({"op": "add", "path": "/spec/tolerations", "value": [{"key": "nvidia.com/gpu"}]},) if patch else (),
    )
    asked = request({}, namespace=namespace, name=name, userInfo={"username": user, "groups": [f"{namespace}-people"]})
    return decision_record(decision, asked, NOW - hours * _HOUR, 0.0004, "p1")
