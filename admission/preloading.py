"""What preloading means for one pod: what is brought where, by which container.

The mutator ``preload`` writes it, the rule ``preload-altered`` compares with it, and
``approved-version`` asks which volumes it fills. All three derive it from the pod, the
approval and the settings, so that a container's name proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from pydantic import Field

from admission.approval import Approval, ApprovalState
from admission.context import ReviewContext
from admission.frameworks import KSERVE_SOURCE_URI
from admission.image_reference import parse_image
from admission.model_reference import URI_KEY
from admission.mutator import MutatorSettings
from admission.pod import Container, ContainerKind, ModelPod
from admission.quantity import parse_quantity

MUTATOR_ID = "preload"
CONTAINER = "tidewaiter-preload"
VERIFY_CONTAINER = "tidewaiter-verify"
VOLUME = "tidewaiter-model"
KSERVE_INITIALIZER = "storage-initializer"
KSERVE_VOLUME = "kserve-provision-location"
HUB_SCHEME = "hf://"
OUR_CONTAINERS = (CONTAINER, VERIFY_CONTAINER)
_REPOSITORY_ARGUMENTS = ("--model-repository", "--model-store", "--model_store")


def _default_arguments() -> tuple[str, ...]:
    return ("preload", "--source={source}", "--destination={destination}", "--layout={layout}", "--digest={digest}")


def _default_verify_arguments() -> tuple[str, ...]:
    return ("verify", "--path={destination}", "--digest={digest}")


def _default_variables() -> tuple[str, ...]:
    return (
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "AWS_ENDPOINT_URL",
    )


class PreloadSettings(MutatorSettings):
    """Settings of preload."""

    image: str = ""
    """Image of the preloader, pinned by digest. Empty: models are not preloaded."""
    arguments: tuple[str, ...] = Field(default_factory=_default_arguments)
    """Arguments; {source}, {destination}, {layout} (files or hub) and {digest} are filled in."""
    verify_arguments: tuple[str, ...] = Field(default_factory=_default_verify_arguments, alias="verifyArguments")
    """Arguments of the container that verifies what KServe brought."""
    size_limit: str = Field(default="50Gi", alias="sizeLimit")
    """Size limit of the emptyDir that holds the model."""
    uid: int = Field(default=1000, ge=1)
    """The preloader's user."""
    copied_variables: tuple[str, ...] = Field(default_factory=_default_variables, alias="copiedVariables")
    """Variables with credentials that the preloader gets from the server's container."""
    requests: dict[str, str] = Field(default_factory=lambda: {"cpu": "100m", "memory": "256Mi"})
    """Resource requests, cut down to what the pod's own containers ask for."""
    limits: dict[str, str] = Field(default_factory=lambda: {"cpu": "2", "memory": "1Gi"})
    """Resource limits."""


@dataclass(frozen=True, slots=True)
class Preloading:
    """One init container of ours: what it brings or verifies, and for whom.

    ``paths`` are where the servers look, by container. ``taken`` are servers that have a
    volume of their own there. ``after`` is the container that ours follows; None: it
    stands first.
    """

    container: dict[str, Any]
    volume: str
    source: str
    digest: str
    destination: str
    paths: Mapping[str, str]
    taken: tuple[str, ...] = ()
    after: Container | None = None

    @property
    def hub(self) -> bool:
        """Whether the model is laid out as the Hugging Face hub's cache."""
        return self.source.startswith(HUB_SCHEME)


def preload_settings(context: ReviewContext) -> PreloadSettings | None:
    """The settings of preload, as rules see them; None where it is off here."""
    settings = context.mutators.get(MUTATOR_ID)
    return settings if isinstance(settings, PreloadSettings) else None


def approved(context: ReviewContext) -> Approval | None:
    """The approval, where it holds for this environment now."""
    approval = context.approval
    if not isinstance(approval, Approval) or approval.state is not ApprovalState.APPROVED:
        return None
    if approval.expires is not None and approval.expires <= context.now:
        return None
    return approval if not approval.environments or context.environment in approval.environments else None


def wanted_source(pod: ModelPod, context: ReviewContext) -> str:
    """The URI that is to be brought: the annotation's, else that of an approval with a digest."""
    approval = approved(context)
    return pod.annotations.get(URI_KEY) or (approval.source if approval is not None and approval.digest else "")


def preloading(pod: ModelPod, context: ReviewContext, settings: PreloadSettings) -> Preloading | None:
    """What is to be done for ``pod``; None where there is nothing to bring or to verify.

    On a pod that has our container already the answer is the same.
    """
    if not settings.image:
        return None
    if KSERVE_SOURCE_URI in pod.annotations or kserve_initializer(pod) is not None:
        return _verifying(pod, context, settings)
    source = wanted_source(pod, context)
    servers = servers_of(pod)
    if not source or not servers:
        return None
    approval = approved(context)
    digest = approval.digest if approval is not None else ""
    paths = {server.name: _model_path(server) for server in servers}
    destination = paths[servers[0].name]
    layout = "hub" if source.startswith(HUB_SCHEME) else "files"
    values = {"source": source, "destination": destination, "layout": layout, "digest": digest}
    mount = {"name": VOLUME, "mountPath": destination}
    container = _container(CONTAINER, _filled(settings.arguments, values), mount, pod, settings)
    credentials = _credentials(servers, settings)
    if credentials:
        container["env"] = credentials
    taken = tuple(server.name for server in servers if _foreign_mount_at(server, paths[server.name]))
    return Preloading(container, VOLUME, source, digest, destination, paths, taken)


def _verifying(pod: ModelPod, context: ReviewContext, settings: PreloadSettings) -> Preloading | None:
    """KServe's webhook may run after ours: its container is then there on the second call."""
    initializer, approval = kserve_initializer(pod), approved(context)
    if initializer is None or approval is None or not approval.digest:
        return None
    mounts = initializer.spec.get("volumeMounts") or ()
    mount = next((one for one in mounts if one.get("name") == KSERVE_VOLUME), None)
    if mount is None:
        return None
    path = str(mount.get("mountPath") or "/mnt/models")
    arguments = _filled(settings.verify_arguments, {"destination": path, "digest": approval.digest})
    ours = {"name": KSERVE_VOLUME, "mountPath": path, "readOnly": True}
    container = _container(VERIFY_CONTAINER, arguments, ours, pod, settings)
    return Preloading(container, KSERVE_VOLUME, "", approval.digest, path, {}, after=initializer)


def kserve_initializer(pod: ModelPod) -> Container | None:
    """The container that brings the model in a pod of KServe's."""
    return next(
        (one for one in pod.containers if one.name == KSERVE_INITIALIZER and one.kind is ContainerKind.INIT), None
    )


def named_as_ours(pod: ModelPod) -> tuple[Container, ...]:
    """Containers with a name of ours, whoever wrote them."""
    return tuple(one for one in pod.containers if one.name in OUR_CONTAINERS)


def servers_of(pod: ModelPod) -> list[Container]:
    """The containers that get the model: those named so by the pod's system, else those of known images."""
    main = [one for one in pod.containers if one.kind is ContainerKind.MAIN]
    named = [one for one in main if one.named_server]
    return named or [one for one in main if one.framework is not None] or main[:1]


def volume_of(pod: ModelPod, name: str) -> Mapping[str, Any] | None:
    """The pod's volume of that name."""
    return next((one for one in pod.spec.get("volumes") or () if one.get("name") == name), None)


def volume_kind(volume: Mapping[str, Any]) -> str:
    """What a volume is made of: emptyDir, persistentVolumeClaim, ..."""
    return next((key for key, value in volume.items() if key != "name" and value is not None), "emptyDir")


def same_image(found: str, expected: str) -> bool:
    """Whether two references name the same bytes; a mirror's registry makes no difference to a digest."""
    if found == expected:
        return True
    one, other = parse_image(found), parse_image(expected)
    if one is None or other is None:
        return False
    return bool(other.digest) and one.digest == other.digest


def _model_path(server: Container) -> str:
    """Where the server looks: its own argument, where that is a path; else its system's."""
    for value in option_values(server, _REPOSITORY_ARGUMENTS):
        if value.startswith("/"):
            return value.rstrip("/")
    return server.framework.model_path if server.framework is not None else "/mnt/models"


def option_values(server: Container, names: tuple[str, ...]) -> Iterator[str]:
    """The values that the server's arguments give to options of these names."""
    words = [*(server.spec.get("command") or ()), *(server.spec.get("args") or ())]
    for position, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in names:
            if equals:
                yield value
            elif position + 1 < len(words):
                yield words[position + 1]


def _foreign_mount_at(server: Container, path: str) -> bool:
    return any(
        str(mount.get("mountPath") or "").rstrip("/") == path.rstrip("/") and mount.get("name") != VOLUME
        for mount in server.spec.get("volumeMounts") or ()
    )


def _filled(arguments: Iterable[str], values: Mapping[str, str]) -> list[str]:
    """Fill the placeholders in; an argument whose value would be empty is left out."""
    filled = []
    for argument in arguments:
        if any(f"{{{name}}}" in argument and not value for name, value in values.items()):
            continue
        for name, value in values.items():
            argument = argument.replace(f"{{{name}}}", value)
        filled.append(argument)
    return filled


def _container(
    name: str, arguments: list[str], mount: dict[str, Any], pod: ModelPod, settings: PreloadSettings
) -> dict[str, Any]:
    return {
        "name": name,
        "image": settings.image,
        "args": arguments,
        "resources": _resources(pod, settings),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": settings.uid,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [mount],
    }


def _resources(pod: ModelPod, settings: PreloadSettings) -> dict[str, dict[str, str]]:
    """No more than the main containers ask for together, so that the pod fits where it fitted.

    A pod of quality of service Guaranteed stays so (the CPU manager pins only those):
    its preloader gets requests that equal its limits.
    """
    if _guaranteed(pod):
        limits = {name: _at_most(quantity, name, pod) for name, quantity in settings.limits.items()}
        return {"requests": dict(limits), "limits": limits}
    requests = {name: _at_most(quantity, name, pod) for name, quantity in settings.requests.items()}
    return {"requests": requests, "limits": dict(settings.limits)}


def _guaranteed(pod: ModelPod) -> bool:
    for container in pod.containers:
        limits = (container.spec.get("resources") or {}).get("limits") or {}
        requests = (container.spec.get("resources") or {}).get("requests") or {}
        for resource in ("cpu", "memory"):
            limit = parse_quantity(limits.get(resource))
            if not limit or parse_quantity(requests.get(resource, limits[resource])) != limit:
                return False
    return True


def _at_most(quantity: str, resource: str, pod: ModelPod) -> str:
    """``quantity``, or what the main containers request in total where that is less."""
    total = Fraction(0)
    for container in pod.containers:
        if container.kind is ContainerKind.MAIN:
            resources = container.spec.get("resources") or {}
            own = (resources.get("requests") or {}).get(resource, (resources.get("limits") or {}).get(resource))
            total += parse_quantity(own) or 0
    ours = parse_quantity(quantity)
    if ours is None or total >= ours:
        return quantity
    return f"{int(total * 1000)}m" if resource == "cpu" else str(int(total))


def _credentials(servers: Iterable[Container], settings: PreloadSettings) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for server in servers:
        for entry in server.spec.get("env") or ():
            if entry.get("name") in settings.copied_variables:
                found.setdefault(entry["name"], dict(entry))
    return list(found.values())
