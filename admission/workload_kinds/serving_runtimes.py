"""Which serving runtime KServe chooses for a model, and what it makes of the runtime's image.

Sources: KServe ``pkg/apis/serving/v1beta1/predictor_model.go`` (``GetSupportingRuntimes``,
``RuntimeSupportsModel``), ``pkg/controller/v1beta1/inferenceservice/utils/utils.go``
(``GetServingRuntime``, ``UpdateImageTag``, ``ReplacePlaceholders``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from admission.workload_kinds.authored_field import AuthoredField
from admission.workload_kinds.workload_pod import WorkloadFacts

DEFAULT_PROTOCOL = "v1"
_PROTOCOLS = ("v1", "v2", "grpc-v1", "grpc-v2")
"""In the order in which KServe prefers them."""

_GPU_BUILDS = ("kserve-tensorflow-serving", "kserve-torchserve", "kserve-huggingfaceserver")
"""Runtimes whose GPU build has the same image with ``-gpu`` behind the tag."""
_GPUS = ("nvidia.com/gpu", "amd.com/gpu", "intel.com/gpu", "habana.ai/gaudi")
_TAG = re.compile(r"(:([\w.\-_]*))$")
_PLACEHOLDER = re.compile(r"\{\{-?\s*\.(Name|Namespace|(?:Labels|Annotations)\.(\w+))\s*-?\}\}")


@dataclass(frozen=True, slots=True)
class ServingRuntime:
    """A ServingRuntime or, where ``namespace`` is empty, a ClusterServingRuntime."""

    namespace: str
    name: str
    spec: AuthoredField
    created: str = ""

    def supports(self, wanted: WantedRuntime, *, auto_selected: bool) -> bool:
        """Whether a model of that format can be served, by a runtime that was asked for or not."""
        if self.spec["disabled"].flag():
            return False
        protocols = [one.text() for one in self.spec["protocolVersions"].items()]
        if protocols and wanted.protocol and wanted.protocol not in protocols:
            return False
        if not auto_selected:
            return True
        if self.spec["multiModel"].flag() or self.spec["workerSpec"].present != wanted.multi_node:
            return False
        return any(
            one["autoSelect"].flag()
            and one["name"].text() == wanted.format
            and (not wanted.version or one["version"].text() == wanted.version)
            for one in self.spec["supportedModelFormats"].items()
        )

    def protocol_rank(self) -> int:
        """The place of the runtime's best protocol; unknown ones come last."""
        known = [one.text() for one in self.spec["protocolVersions"].items()]
        return min((_PROTOCOLS.index(one) for one in known if one in _PROTOCOLS), default=len(_PROTOCOLS))

    def priority(self, format_name: str) -> int:
        """What ``supportedModelFormats`` says for the format; -1 where it says nothing."""
        for one in self.spec["supportedModelFormats"].items():
            if one["name"].text() == format_name and one["priority"].present:
                return one["priority"].number()
        return -1


@dataclass(frozen=True, slots=True)
class WantedRuntime:
    """What a predictor asks of its runtime. ``name`` is empty where KServe is to choose."""

    name: str
    format: str
    version: str
    protocol: str
    multi_node: bool


def chosen_runtime(wanted: WantedRuntime, namespace: str, facts: WorkloadFacts) -> ServingRuntime | None:
    """The runtime that KServe would take; None where there is none that it could.

    Memory and GPUs of the runtimes play no part, as in KServe.
    """
    if wanted.name:
        for place in (namespace, ""):
            obj = facts.serving_runtimes.get((place, wanted.name))
            if obj is not None:
                runtime = _runtime(place, wanted.name, obj)
                return runtime if runtime.supports(wanted, auto_selected=False) else None
        return None
    runtimes = [_runtime(place, name, obj) for (place, name), obj in facts.serving_runtimes.items()]
    for place in dict.fromkeys((namespace, "")):
        fitting = [one for one in runtimes if one.namespace == place and one.supports(wanted, auto_selected=True)]
        if fitting:
            fitting.sort(key=lambda one: one.name)
            fitting.sort(key=lambda one: one.created, reverse=True)
            fitting.sort(key=ServingRuntime.protocol_rank)
            fitting.sort(key=lambda one: -one.priority(wanted.format))
            return fitting[0]
    return None


def _runtime(namespace: str, name: str, obj: Mapping[str, Any]) -> ServingRuntime:
    kind = "servingruntime" if namespace else "clusterservingruntime"
    field = AuthoredField(obj, "", kind)
    spec = field["spec"]
    # Told to the author of an InferenceService, to whom "spec" would be something else.
    spec = AuthoredField(spec.value, f"{kind} {name}: spec", kind)
    return ServingRuntime(namespace, name, spec, field.at("metadata.creationTimestamp").text())


def image_of_version(image: str, version: str) -> str:
    """The runtime's image with ``runtimeVersion`` as its tag, unless a digest fixes it."""
    if not version or not image or "@sha256:" in image:
        return image
    return f"{_TAG.sub('', image)}:{version}"


def image_of_gpu_build(image: str, runtime: str, resources: Mapping[str, Any]) -> str:
    """The runtime's image for GPUs, where KServe knows one and GPUs are asked for."""
    asked = {key for name in ("limits", "requests") for key in resources.get(name) or {}}
    tagged = "@sha256:" not in image and _TAG.search(image)
    if runtime not in _GPU_BUILDS or not asked.intersection(_GPUS) or not tagged or image.endswith("-gpu"):
        return image
    return f"{image}-gpu"


def with_placeholders_filled(value: Any, metadata: AuthoredField) -> Any:
    """``value`` with ``{{.Name}}`` and its like replaced by the InferenceService's metadata."""
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda match: _meaning(match, metadata), value) if "{{" in value else value
    if isinstance(value, list):
        return [with_placeholders_filled(one, metadata) for one in value]
    if isinstance(value, dict):
        return {key: with_placeholders_filled(one, metadata) for key, one in value.items()}
    return value


def _meaning(match: re.Match[str], metadata: AuthoredField) -> str:
    field, _, key = match[1].partition(".")
    place = metadata[field.lower()]
    return place[key].text() if key else place.text()
