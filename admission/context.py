"""The facts that a review may use, all of them already held by the process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from admission.approval import Answer, Answered, ApprovalLookup, NotFound, no_registry
from admission.image_signature import Signatures, none_wanted
from admission.model_reference import ModelReference
from admission.namespace import NamespacePolicy
from admission.policy_exception import PolicyException
from admission.pools import Pool
from admission.template_history import PodHistory, TemplateHistory, no_history, no_pods
from admission.workload import WorkloadClass
from admission.workload_kinds.kinds import workload_kind
from admission.workload_kinds.workload_pod import WorkloadFacts, WorkloadKind

_ACCELERATOR_DRIVERS = ("gpu.", "mig.", "vfio.gpu.", "tpu.", "gaudi.")


@dataclass(frozen=True, slots=True)
class PriorityClass:
    """A priority class that exists in the cluster."""

    name: str
    value: int
    global_default: bool = False


@dataclass(frozen=True, slots=True)
class Selector:
    """A label selector of an object in a namespace that picks pods."""

    kind: str
    name: str
    match_labels: Mapping[str, str]

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether a pod with ``labels`` is picked."""
        return all(labels.get(key) == value for key, value in self.match_labels.items())


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What is known of the cluster.

    ``nodes`` are the distinct label sets of its nodes, without what is a node's own
    (its host name). ``selectors`` holds, by namespace, only those that name a cost
    label. ``claim_templates`` maps (namespace, name) of a ResourceClaimTemplate to
    the device classes it asks for.
    """

    nodes: tuple[Mapping[str, str], ...] = ()
    priority_classes: Mapping[str, PriorityClass] = field(default_factory=dict)
    selectors: Mapping[str, tuple[Selector, ...]] = field(default_factory=dict)
    claim_templates: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    workloads: WorkloadFacts = field(default_factory=WorkloadFacts)

    def claim_is_accelerator(self, namespace: str, claim: Mapping[str, Any]) -> bool:
        """Whether a pod's claim asks for an accelerator; an unknown template counts."""
        template = claim.get("resourceClaimTemplateName")
        classes = self.claim_templates.get((namespace, template)) if template else None
        if classes is None:
            return True
        return any(name.startswith(_ACCELERATOR_DRIVERS) for name in classes)


@dataclass(frozen=True, slots=True)
class DeployQuestion:
    """Whether the cluster's RBAC lets a user deploy models to a namespace; the answer is None where nobody knows."""

    username: str
    groups: tuple[str, ...]
    namespace: str


@dataclass(frozen=True, slots=True)
class MissingInjection:
    """What a mutator in ``apply`` mode would still change on a pod as received."""

    mutator: str
    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReviewContext:
    """Everything that a mutator or a rule may ask, besides the pod itself.

    ``now`` is aware, UTC. ``workload``, ``model`` and ``approval`` belong to the pod
    under review and are filled in by the pipeline, ``missing`` for rules only, like
    ``mutators``: the settings of those mutators that are not off here, by id.
    ``answered`` is who said what ``approval`` is, and when; None where no registry was asked.
    ``controllers`` are the user names of custom controllers by the kind that they own;
    ``by_controller`` says that the object is made by the controller that owns it.
    ``exceptions`` are those that may hold in the namespace; ``owner_of(namespace, kind, name)`` is
    the kind and name of an object's controller, where it is known. ``had_pods`` tells of pods that
    an owner had from the same template: making one again is no deployment.
    ``wants_signature`` says whether an image must be signed, ``signatures`` is what was said of those.
    ``asks_rbac`` says that RBAC decides who may deploy, ``may_deploy`` what it said of the user;
    None where it was not asked.
    """

    namespace: NamespacePolicy
    now: datetime
    operation: str = "CREATE"
    username: str = ""
    groups: tuple[str, ...] = ()
    pools: Mapping[str, Pool] = field(default_factory=dict)
    cluster: ClusterFacts = field(default_factory=ClusterFacts)
    approvals: ApprovalLookup = no_registry
    had_template: TemplateHistory = no_history
    workload: WorkloadClass = WorkloadClass.INFERENCE
    model: ModelReference = field(default_factory=ModelReference)
    approval: Answer = field(default_factory=NotFound)
    answered: Answered | None = None
    missing: tuple[MissingInjection, ...] = ()
    mutators: Mapping[str, BaseModel] = field(default_factory=dict)
    custom_kinds: Mapping[tuple[str, str], WorkloadKind] = field(default_factory=dict)
    controllers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    by_controller: bool = False
    asks_rbac: bool = False
    may_deploy: bool | None = None
    wants_signature: Callable[[str], bool] = none_wanted
    signatures: Signatures = field(default_factory=dict)
    exceptions: tuple[PolicyException, ...] = ()
    had_pods: PodHistory = no_pods
    owner_of: Callable[[str, str, str], tuple[str, str] | None] = lambda _namespace, _kind, _name: None

    def workload_kind(self, group: str, kind: str) -> WorkloadKind | None:
        """What is known of a kind, by the settings or by ourselves."""
        return self.custom_kinds.get((group, kind)) or workload_kind(group, kind)

    @property
    def environment(self) -> str:
        """The namespace's environment; "" where it is not opted in."""
        return self.namespace.environment
