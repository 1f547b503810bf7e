"""Workload classes: what kind of work a model pod does."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any

WORKLOAD_KEY = "tidewaiter.dev/workload"


class WorkloadClass(StrEnum):
    """What kind of work a pod does; ``none`` is a GPU pod that runs no model."""

    INFERENCE = "inference"
    TRAINING = "training"
    BATCH = "batch"
    DEVELOPMENT = "development"
    NONE = "none"


_BY_OWNER: dict[str, WorkloadClass] = {
    "Job": WorkloadClass.TRAINING,
    "CronJob": WorkloadClass.TRAINING,
    "JAXJob": WorkloadClass.TRAINING,
    "MPIJob": WorkloadClass.TRAINING,
    "PaddleJob": WorkloadClass.TRAINING,
    "PyTorchJob": WorkloadClass.TRAINING,
    "TFJob": WorkloadClass.TRAINING,
    "XGBoostJob": WorkloadClass.TRAINING,
    "JobSet": WorkloadClass.TRAINING,
    "Deployment": WorkloadClass.INFERENCE,
    "ReplicaSet": WorkloadClass.INFERENCE,
    "StatefulSet": WorkloadClass.INFERENCE,
    "DaemonSet": WorkloadClass.INFERENCE,
    "InferenceService": WorkloadClass.INFERENCE,
    "RayService": WorkloadClass.INFERENCE,
    "LeaderWorkerSet": WorkloadClass.INFERENCE,
}

_INFERENCE_LABELS = ("serving.kserve.io/inferenceservice", "seldon-deployment-id", "seldon-server-name")
"""Labels of serving systems. Anybody may set them, so none stands for a laxer class."""

_CONTROLLERS: dict[str, str] = {
    "Job": "job-controller",
    "ReplicaSet": "replicaset-controller",
    "StatefulSet": "statefulset-controller",
    "DaemonSet": "daemon-set-controller",
    "CronJob": "cronjob-controller",
    "Deployment": "deployment-controller",
}
"""The service account of kube-controller-manager that owns each kind."""

_CONTROLLER_MANAGER = "system:kube-controller-manager"
_SERVICE_ACCOUNT = "system:serviceaccount:kube-system:"


def trusted_owner_kind(
    obj: Mapping[str, Any], username: str, controllers: Mapping[str, tuple[str, ...]] = MappingProxyType({})
) -> str:
    """The kind of the controlling owner, where the request comes from that controller.

    Anybody may write an owner reference into a pod of their own, so it counts only
    in a request of the controller that owns that kind; otherwise the answer is "".
    ``controllers`` are user names by kind, beside those of kube-controller-manager.
    """
    metadata = obj.get("metadata")
    owners = metadata.get("ownerReferences") if isinstance(metadata, Mapping) else None
    for owner in owners if isinstance(owners, list) else ():
        if not (isinstance(owner, Mapping) and owner.get("controller")):
            continue
        kind = str(owner.get("kind") or "")
        account = _CONTROLLERS.get(kind)
        if account and username in (_SERVICE_ACCOUNT + account, _CONTROLLER_MANAGER):
            return kind
        if username in controllers.get(kind, ()):
            return kind
    return ""


def controller_user(kind: str, controllers: Mapping[str, tuple[str, ...]] = MappingProxyType({})) -> str:
    """The user whose requests about the pods of a kind are believed; "" where nobody's are."""
    account = _CONTROLLERS.get(kind)
    return _SERVICE_ACCOUNT + account if account else next(iter(controllers.get(kind, ())), "")


def requested_class(labels: Mapping[str, str]) -> str:
    """The class that the pod's label asks for, as written; empty where none is."""
    return labels.get(WORKLOAD_KEY) or ""


def workload_class(
    labels: Mapping[str, str],
    owner_kind: str,
    allowed: tuple[WorkloadClass, ...],
    default: WorkloadClass,
    said_by_kind: WorkloadClass | None = None,
) -> WorkloadClass:
    """The class that holds for a pod.

    The label tidewaiter.dev/workload counts where the namespace allows what it asks
    for; then the kind of the workload or the trusted owner says; then the namespace's default. An inferred class
    that the namespace does not allow falls back to the default.

    Labels of other systems are the author's too. Those of serving systems say
    inference, which every rule covers, so that forging them gains nothing. Those of
    training systems say nothing: a pod of theirs is training by its owner (a TrainJob's
    pods belong to a Job) or by label tidewaiter.dev/workload.
    """
    asked = requested_class(labels)
    if asked in allowed:
        return WorkloadClass(asked)
    inferred = said_by_kind or _BY_OWNER.get(owner_kind)
    if inferred is None:
        inferred = WorkloadClass.INFERENCE if any(key in labels for key in _INFERENCE_LABELS) else None
    return inferred if inferred in allowed and inferred is not None else default
