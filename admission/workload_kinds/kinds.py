"""``WORKLOAD_KINDS``: every kind of workload whose pods are known, one entry each."""

from __future__ import annotations

from collections.abc import Mapping

from admission.workload import WorkloadClass
from admission.workload_kinds.inference_service import KSERVE_KINDS
from admission.workload_kinds.kuberay import KUBERAY_KINDS
from admission.workload_kinds.llm_inference_service import LLM_INFERENCE_SERVICE
from admission.workload_kinds.nim_service import NIM_SERVICE
from admission.workload_kinds.seldon_core2 import SELDON_CORE2_KINDS
from admission.workload_kinds.seldon_deployment import SELDON_DEPLOYMENT
from admission.workload_kinds.templates import Template, template_kind, templates_kind
from admission.workload_kinds.train_job import TRAIN_JOB
from admission.workload_kinds.workload_pod import WorkloadKind

_INFERENCE = WorkloadClass.INFERENCE
_TRAINING = WorkloadClass.TRAINING
_TEMPLATE = "spec.template"


def _kubeflow(kind: str, plural: str, specs: str, versions: tuple[str, ...] = ("v1",)) -> WorkloadKind:
    return template_kind(
        "kubeflow.org",
        kind,
        plural,
        versions,
        f"spec.{specs}.*.template",
        workload=_TRAINING,
        labels={"training.kubeflow.org/job-name": "{name}"},
    )


_LWS_LABELS = {"leaderworkerset.sigs.k8s.io/name": "{name}"}

WORKLOAD_KINDS: tuple[WorkloadKind, ...] = (
    template_kind(
        "apps", "Deployment", "deployments", ("v1",), _TEMPLATE, owner_kind="ReplicaSet", workload=_INFERENCE
    ),
    template_kind("apps", "StatefulSet", "statefulsets", ("v1",), _TEMPLATE, workload=_INFERENCE),
    template_kind("apps", "DaemonSet", "daemonsets", ("v1",), _TEMPLATE, workload=_INFERENCE),
    template_kind("apps", "ReplicaSet", "replicasets", ("v1",), _TEMPLATE, workload=_INFERENCE),
    template_kind("", "ReplicationController", "replicationcontrollers", ("v1",), _TEMPLATE, workload=_INFERENCE),
    template_kind("batch", "Job", "jobs", ("v1",), _TEMPLATE, workload=_TRAINING),
    template_kind(
        "batch",
        "CronJob",
        "cronjobs",
        ("v1",),
        "spec.jobTemplate.spec.template",
        owner_kind="Job",
        workload=_TRAINING,
    ),
    *KSERVE_KINDS,
    LLM_INFERENCE_SERVICE,
    SELDON_DEPLOYMENT,
    *SELDON_CORE2_KINDS,
    *KUBERAY_KINDS,
    templates_kind(
        "leaderworkerset.x-k8s.io",
        "LeaderWorkerSet",
        "leaderworkersets",
        ("v1",),
        (
            Template("spec.leaderWorkerTemplate.leaderTemplate", "leader", _LWS_LABELS, "StatefulSet"),
            Template("spec.leaderWorkerTemplate.workerTemplate", "worker", _LWS_LABELS, "StatefulSet"),
        ),
        workload=_INFERENCE,
    ),
    template_kind(
        "jobset.x-k8s.io",
        "JobSet",
        "jobsets",
        ("v1alpha2",),
        "spec.replicatedJobs[*].template.spec.template",
        owner_kind="Job",
        workload=_TRAINING,
        labels={"jobset.sigs.k8s.io/jobset-name": "{name}", "jobset.sigs.k8s.io/replicatedjob-name": "{entry}"},
    ),
    _kubeflow("PyTorchJob", "pytorchjobs", "pytorchReplicaSpecs"),
    _kubeflow("TFJob", "tfjobs", "tfReplicaSpecs"),
    _kubeflow("MPIJob", "mpijobs", "mpiReplicaSpecs", ("v1", "v2beta1")),
    _kubeflow("XGBoostJob", "xgboostjobs", "xgbReplicaSpecs"),
    _kubeflow("JAXJob", "jaxjobs", "jaxReplicaSpecs"),
    _kubeflow("PaddleJob", "paddlejobs", "paddleReplicaSpecs"),
    TRAIN_JOB,
    # One with a workloadRef has no template: the workload that it names is judged itself.
    template_kind(
        "argoproj.io", "Rollout", "rollouts", ("v1alpha1",), _TEMPLATE, owner_kind="ReplicaSet", workload=_INFERENCE
    ),
    NIM_SERVICE,
    template_kind(
        "serving.knative.dev",
        "Service",
        "services",
        ("v1",),
        _TEMPLATE,
        owner_kind="ReplicaSet",
        workload=_INFERENCE,
        labels={"serving.knative.dev/service": "{name}"},
    ),
    template_kind(
        "serving.knative.dev",
        "Configuration",
        "configurations",
        ("v1",),
        _TEMPLATE,
        owner_kind="ReplicaSet",
        workload=_INFERENCE,
    ),
    template_kind(
        "serving.knative.dev", "Revision", "revisions", ("v1",), "", owner_kind="ReplicaSet", workload=_INFERENCE
    ),
)

_BY_KIND: Mapping[tuple[str, str], WorkloadKind] = {(one.group, one.kind): one for one in WORKLOAD_KINDS}


def workload_kind(group: str, kind: str) -> WorkloadKind | None:
    """The entry of a kind; None where its pods are not known."""
    return _BY_KIND.get((group, kind))
