"""``ModelPod``: a pod as rules see it, and its containers through one iterator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from admission.accelerators import is_gpu_node_key, requested_accelerators, uses_claims
from admission.command_line import commands
from admission.frameworks import KSERVE_SOURCE_URI, OUR_LABELS, Framework, image_framework, label_frameworks
from admission.model_servers import SERVER_PROGRAM, started_server


class ContainerKind(StrEnum):
    """Which list of the pod's spec a container stands in."""

    INIT = "initContainers"
    MAIN = "containers"
    EPHEMERAL = "ephemeralContainers"


_EXPANSION = 64 * 1024
"""Characters that variables may bring into the command lines of one pod; no real one comes near."""
_LEAST_EXPANSION = 1024
_PLACES = tuple((kind, kind.value) for kind in ContainerKind)


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a pod; ``spec`` is the live object, so mutators may edit it.

    ``named_server``: the pod's system, told by its labels, has its server under this name.
    ``expansion``: the characters that variables may bring into its command lines, its share of the pod's.
    """

    kind: ContainerKind
    path: str
    spec: dict[str, Any]
    framework: Framework | None
    accelerators: dict[str, Any]
    named_server: bool = False
    expansion: int = _EXPANSION

    @property
    def name(self) -> str:
        """The container's name; empty where it has none yet."""
        return self.spec.get("name") or ""

    @property
    def image(self) -> str:
        """The image as written; empty where it has none."""
        return self.spec.get("image") or ""

    @property
    def sidecar(self) -> bool:
        """An init container that runs for the pod's whole life (KEP-753)."""
        return self.kind is ContainerKind.INIT and self.spec.get("restartPolicy") == "Always"

    def env(self, name: str) -> str | None:
        """The literal value of a variable; None where it is absent or a reference.

        Of one that is set twice the kubelet takes the last.
        """
        for entry in reversed(self.spec.get("env") or ()):
            if entry.get("name") == name:
                value = entry.get("value")
                return None if value is None else str(value)
        return None

    def has_env(self, name: str) -> bool:
        """Whether the variable is set in any form."""
        return any(entry.get("name") == name for entry in self.spec.get("env") or ())

    def mounts_at(self, path: str) -> bool:
        """Whether a volume is mounted exactly at ``path``."""
        wanted = path.rstrip("/")
        return any(
            str(mount.get("mountPath", "")).rstrip("/") == wanted for mount in self.spec.get("volumeMounts") or ()
        )


ClaimIsAccelerator = Callable[[Mapping[str, Any]], bool]
"""Tells for one entry of ``spec.resourceClaims`` whether it asks for an accelerator."""


_ASKING = ("In", "Exists", "Gt", "Lt")


def _known_program(container: Container) -> str:
    """The server that the container's own command starts, whatever its image; empty where none.

    What is plainly written is looked for first: that is cheap, and what CEL can do too.
    """
    words = (str(word) for field in ("command", "args") for word in container.spec.get(field) or ())
    if not any(map(SERVER_PROGRAM.search, words)):
        return ""
    for command in commands(container):
        found = started_server([word.text for word in command])
        if found is not None:
            return found[0].name
    return ""


def _every_claim(_claim: Mapping[str, Any]) -> bool:
    return True


@dataclass(slots=True)
class ModelPod:
    """A pod (or the pod that a template would make).

    ``obj`` is the working copy; ``template`` says that it would come of a workload, and
    ``loads_model`` is False where that workload says nothing of a model (a router).
    ``namespace`` comes from the request, since a pod's own is empty on CREATE. Paths are
    the pod's own: the pipeline turns them into those of the author's object. ``spec`` is the
    working copy's, made where it is missing.
    """

    obj: dict[str, Any]
    namespace: str = ""
    owner_kind: str = ""
    claim_is_accelerator: ClaimIsAccelerator = _every_claim
    template: bool = False
    loads_model: bool = True
    spec: dict[str, Any] = field(init=False)
    containers: tuple[Container, ...] = field(init=False)
    frameworks: tuple[Framework, ...] = field(init=False)
    claims_accelerator: bool = field(init=False)

    def __post_init__(self) -> None:
        self.refresh()

    def refresh(self) -> None:
        """Read the containers again, after a list of them has changed."""
        self.spec = child(self.obj, "spec")
        by_label = tuple(dict.fromkeys(label_frameworks(self.labels)))
        named = {name for framework in by_label for name in framework.containers}
        count = sum(len(self.spec.get(place) or ()) for _, place in _PLACES)
        expansion = max(_EXPANSION // (count or 1), _LEAST_EXPANSION)
        containers: list[Container] = []
        for kind, place in _PLACES:
            for index, spec in enumerate(self.spec.get(place) or ()):
                image = spec.get("image") or ""
                containers.append(
                    Container(
                        kind=kind,
                        path=f"spec.{place}[{index}]",
                        spec=spec,
                        framework=image_framework(image) if image else None,
                        accelerators=requested_accelerators(spec),
                        named_server=kind is ContainerKind.MAIN and spec.get("name") in named,
                        expansion=expansion,
                    )
                )
        self.containers = tuple(containers)
        by_image = (container.framework for container in containers if container.framework)
        self.frameworks = tuple(dict.fromkeys((*by_label, *by_image)))
        self.claims_accelerator = any(
            self.claim_is_accelerator(claim) for claim in self.spec.get("resourceClaims") or ()
        )

    @property
    def metadata(self) -> dict[str, Any]:
        """``metadata``, made where it is missing."""
        return child(self.obj, "metadata")

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels, for reading."""
        return (self.obj.get("metadata") or {}).get("labels") or {}

    @property
    def annotations(self) -> Mapping[str, str]:
        """The annotations, for reading."""
        return (self.obj.get("metadata") or {}).get("annotations") or {}

    def on(self, obj: dict[str, Any]) -> ModelPod:
        """The same pod on another object."""
        return ModelPod(
            obj, self.namespace, self.owner_kind, self.claim_is_accelerator, self.template, self.loads_model
        )

    @property
    def accelerators(self) -> dict[str, Any]:
        """Every accelerator resource that a container asks for."""
        found: dict[str, Any] = {}
        for container in self.containers:
            found.update(container.accelerators)
        return found

    @property
    def uses_accelerator(self) -> bool:
        """Whether the pod asks for an accelerator in any way."""
        return self.claims_accelerator or any(
            container.accelerators or (uses_claims(container.spec) and self.claims_accelerator)
            for container in self.containers
        )

    @property
    def recognised_by(self) -> str:
        """Why this is a model pod, in words; empty where it is none."""
        if self.frameworks:
            return self.frameworks[0].name
        if self.uses_accelerator:
            return next(iter(self.accelerators), "resource claim")
        ours = next((key for key in OUR_LABELS if key in self.labels), "")
        if ours:
            return f"label {ours}"
        if KSERVE_SOURCE_URI in self.annotations:
            return "storage-initializer annotation"
        started = next(filter(None, map(_known_program, self.containers)), "")
        if started:
            return f"program {started}"
        # Agents of a node stand on every node with GPUs and run no model.
        return "placement on GPU nodes" if self.wants_gpu_node and self.owner_kind != "DaemonSet" else ""

    @property
    def wants_gpu_node(self) -> bool:
        """Whether placement names nodes with accelerators: by selector, required affinity or toleration."""
        keys = [*(self.spec.get("nodeSelector") or {})]
        keys += [str(one.get("key") or "") for one in self.spec.get("tolerations") or ()]
        affinity = (self.spec.get("affinity") or {}).get("nodeAffinity") or {}
        required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
        keys += [
            str(one.get("key") or "")
            for term in required.get("nodeSelectorTerms") or ()
            for one in term.get("matchExpressions") or ()
            if one.get("operator") in _ASKING
        ]
        return any(map(is_gpu_node_key, keys))

    @property
    def is_windows(self) -> bool:
        """Whether the pod says that it runs on Windows."""
        return (self.spec.get("os") or {}).get("name") == "windows"


def child(parent: dict[str, Any], key: str) -> dict[str, Any]:
    """The mapping under ``key``, made where it is missing or null."""
    value = parent.get(key)
    if value is None:
        value = parent[key] = {}
    return value


def items(parent: dict[str, Any], key: str) -> list[Any]:
    """The list under ``key``, made where it is missing or null."""
    value = parent.get(key)
    if value is None:
        value = parent[key] = []
    return value
