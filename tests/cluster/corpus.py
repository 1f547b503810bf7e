"""Real manifests that nobody wrote for Tidewaiter, from a folder outside this repository."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from admission.workload_kinds.kinds import WORKLOAD_KINDS
from tests.cluster.manifests import Object
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.waiting import wait_until

REPOSITORY = Path(__file__).parents[2]
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
LATER_IMAGE = "docker.io/library/from-the-runtime:1"
MISSING = (
    "no corpus of manifests: set TIDEWAITER_CORPUS to a folder of them (for example the samples of "
    "GoogleCloudPlatform/kubernetes-engine-samples, kserve/kserve, ray-project/kuberay, NVIDIA/nim-deploy and "
    "SeldonIO/seldon-core) and TIDEWAITER_CRDS to one of the CustomResourceDefinitions of KServe, KubeRay and "
    "Seldon; or put them at ../shared/corpus and ../shared/crds"
)


@dataclass(frozen=True)
class Document:
    """One object of a file, or a pod template found inside it (`path` is then where)."""

    file: str
    obj: Object
    path: str = ""

    @property
    def kind(self) -> str:
        """The kind of the object that its author wrote."""
        return str(self.obj.get("kind") or "")

    @property
    def title(self) -> str:
        """File, kind, name and place, for people."""
        name = (self.obj.get("metadata") or {}).get("name") or ""
        return f"{self.file} {self.kind}/{name}{' ' + self.path if self.path else ''}"


def folder(variable: str, name: str) -> Path | None:
    """The folder that an environment variable names, else the one beside the repository; None where there is none."""
    named = os.environ.get(variable)
    path = Path(named) if named else REPOSITORY.parent / "shared" / name
    if named and not path.is_dir():
        raise NotADirectoryError(f"{variable}={named} is no folder")
    return path if path.is_dir() else None


def documents(path: Path) -> Iterator[Document]:
    """Every object of every manifest in a folder and those below it; templates of other languages are passed over."""
    for file in sorted([*path.rglob("*.yaml"), *path.rglob("*.yml"), *path.rglob("*.json")]):
        try:
            loaded = list(yaml.load_all(file.read_text(encoding="utf-8"), Loader=_LOADER))
        except (yaml.YAMLError, UnicodeDecodeError):
            continue
        for one in loaded:
            for obj in _objects(one):
                yield Document(str(file.relative_to(path)), obj)


def _objects(document: Any) -> Iterator[Object]:
    """The object, or those of a List, as JSON has them: YAML also knows dates and keys that are no text."""
    if isinstance(document, dict):
        listed = document.get("items") if str(document.get("kind", "")).endswith("List") else None
        for obj in listed if isinstance(listed, list) else [document]:
            if isinstance(obj, dict) and isinstance(obj.get("metadata") or {}, dict):
                yield json.loads(json.dumps(obj, default=str))


def install(plane: ControlPlane, crds: Path | None) -> None:
    """Have the API server serve the kinds of a folder of CustomResourceDefinitions; those that it has stay."""
    text = None if crds is not None else yaml.safe_dump_all(small_definitions())
    source = "-" if crds is None else str(crds)
    created = plane.kubectl("apply", "--server-side", "-f", source, "-o", "name", input=text).stdout
    wanted = {line.partition("/")[2] for line in created.splitlines() if line.startswith("customresourcedefinition")}

    def served() -> bool:
        listed = plane.kubectl("api-resources", "-o", "name", "--cached=false", check=False).stdout
        return wanted <= set(listed.split())

    wait_until(served, f"the API server to serve {len(wanted)} kinds")


def small_definitions() -> Iterator[Object]:
    """A CustomResourceDefinition of our own for every custom kind that is known, for where there are no real ones."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    for kind in WORKLOAD_KINDS:
        if "." in kind.group:
            names = {
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
            }
            versions = [
                {"name": version, "served": True, "storage": index == 0, "schema": schema}
                for index, version in enumerate(kind.versions)
            ]
            scope = "Cluster" if kind.kind.startswith("Cluster") else "Namespaced"
            yield {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {
                    "name": f"{kind.plural}.{kind.group}",
                    # Groups under k8s.io are protected; these are copies for a test.
                    "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
                },
                "spec": {"group": kind.group, "names": names, "scope": scope, "versions": versions},
            }


def examples() -> Iterator[Document]:
    """The objects of our own table of workload kinds."""
    file = REPOSITORY / "tests" / "unit" / "workload_kinds" / "examples.yaml"
    for number, one in enumerate(yaml.safe_load(file.read_text(encoding="utf-8"))):
        obj = {**one["object"], "metadata": {"name": "o", **(one["object"].get("metadata") or {})}}
        yield Document(f"{file.name}#{number}", json.loads(json.dumps(obj, default=str)))


def pod_templates(document: Document) -> Iterator[tuple[str, Object]]:
    """Every pod that stands anywhere in the object, as a pod template, and where; a Pod is its own.

    Most kinds have `{metadata, spec}`; some have a pod's spec right away (InferenceService,
    LLMInferenceService).
    """
    yield from _templates(document.obj, "")


def as_pod(template: Mapping[str, Any], name: str) -> Object:
    """A bare pod of a template: its labels, annotations and spec, and an image where a controller would fill it in."""
    own, spec = template.get("metadata") or {}, dict(template["spec"])
    metadata = {key: own[key] for key in ("labels", "annotations") if own.get(key)}
    for field in ("initContainers", "containers"):
        if spec.get(field):
            spec[field] = [{**one, "image": one.get("image", LATER_IMAGE)} for one in spec[field]]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {**metadata, "name": name}, "spec": spec}


def _templates(value: Any, path: str) -> Iterator[tuple[str, Object]]:
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _templates(inner, f"{path}[{index}]")
    if not isinstance(value, dict):
        return
    if _has_containers(value.get("spec")):
        yield path, value
        return
    if _has_containers(value):
        yield path, {"spec": value}
    for key, inner in value.items():
        yield from _templates(inner, f"{path}.{key}" if path else str(key))


def _has_containers(value: Any) -> bool:
    containers = value.get("containers") if isinstance(value, dict) else None
    return isinstance(containers, list) and bool(containers) and all(isinstance(one, dict) for one in containers)
