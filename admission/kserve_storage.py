"""How KServe brings a model into a pod, and whether it does.

The annotation only asks for it, and anybody may write one. KServe's webhook, which is called
for pods with the label ``serving.kserve.io/inferenceservice``, answers with an init container
``storage-initializer``; with a container ``modelcar`` for ``oci://``; or, for ``pvc://``,
with a mount of the claim itself (``pkg/webhook/admission/pod/storage_initializer_injector.go``).
"""

from __future__ import annotations

from collections.abc import Mapping

from admission.approval import CLAIM_SCHEME
from admission.frameworks import KSERVE_SOURCE_URI
from admission.pod import Container, ContainerKind, ModelPod

KSERVE_INITIALIZER = "storage-initializer"
KSERVE_VOLUME = "kserve-provision-location"
INFERENCE_SERVICE_LABEL = "serving.kserve.io/inferenceservice"
KSERVE_PATH = "/mnt/models"
"""Where KServe mounts what it brings."""
MODELCAR = "modelcar"
_IMAGE_SCHEME = "oci://"


def kserve_initializer(pod: ModelPod) -> Container | None:
    """The container that brings the model in a pod of KServe's."""
    return next(
        (one for one in pod.containers if one.name == KSERVE_INITIALIZER and one.kind is ContainerKind.INIT), None
    )


def kserve_source(pod: ModelPod) -> str:
    """The URI that KServe brings; empty where nothing does, whatever the annotation says.

    Of a pod that is not made yet the annotation is believed: KServe's webhook comes later.
    """
    initializer = kserve_initializer(pod)
    told = str(next(iter(initializer.spec.get("args") or ()), "")) if initializer is not None else ""
    asked = pod.annotations.get(KSERVE_SOURCE_URI) or ""
    if "://" in told:
        return told
    return asked if asked and (initializer is not None or pod.template or _in_place(pod, asked)) else told


def unanswered_source(pod: ModelPod) -> str:
    """The URI that the annotation asks for and nothing in the pod brings; empty where there is none."""
    asked = pod.annotations.get(KSERVE_SOURCE_URI) or ""
    brought = pod.template or kserve_initializer(pod) is not None or _in_place(pod, asked)
    return "" if brought else asked


def kserve_may_follow(pod: ModelPod) -> bool:
    """Whether KServe's webhook may still be called for the pod, and bring what the annotation asks for."""
    return KSERVE_SOURCE_URI in pod.annotations and (pod.template or INFERENCE_SERVICE_LABEL in pod.labels)


def kserve_will_bring(pod: ModelPod) -> bool:
    """Whether the pod is not made yet, and KServe's webhook will bring its model as it is made."""
    return pod.template and KSERVE_SOURCE_URI in pod.annotations and kserve_initializer(pod) is None


def _in_place(pod: ModelPod, uri: str) -> bool:
    """Whether the pod has what KServe makes of URIs that need no download."""
    if uri.startswith(_IMAGE_SCHEME):
        return any(one.name == MODELCAR for one in pod.containers)
    if not uri.startswith(CLAIM_SCHEME):
        return False
    claims = (volume.get("persistentVolumeClaim") for volume in pod.spec.get("volumes") or ())
    wanted = uri.removeprefix(CLAIM_SCHEME).partition("/")[0]
    return any(isinstance(one, Mapping) and one.get("claimName") == wanted for one in claims)
