"""Brings the model onto the pod before its server starts, and checks its digest.

Fields: ``spec.initContainers`` (one, first), ``spec.volumes`` (one ``emptyDir``), the
servers' ``volumeMounts``, ``env`` and model argument.

A pod is preloaded when its annotation ``tidewaiter.dev/model-uri`` asks for it, or when
its model version is approved with a source and a digest: the digest is handed on, and
the preloader refuses any other bytes. The init container is itself "restricted", asks for
no more than the pod's own containers (the scheduler counts the larger of both), and stands
first, so that what checks the model after it (model-validation-operator) finds it there.

A server downloads by name whatever was brought, unless it is told: hub servers get the
hub's own layout under ``HF_HUB_CACHE`` and ``HF_HUB_OFFLINE``; an argument that names the
URI is turned into the local path.

Where KServe's storage initializer brings the model, nothing is brought twice: a
container that only verifies the approved digest follows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

from pydantic import Field

from admission.approval import Approval, ApprovalState
from admission.context import ReviewContext
from admission.frameworks import KSERVE_SOURCE_URI
from admission.model_reference import URI_KEY
from admission.mutator import Change, Mutator, MutatorSettings
from admission.pod import Container, ContainerKind, ModelPod, items
from admission.quantity import parse_quantity

CONTAINER = "tidewaiter-preload"
VERIFY_CONTAINER = "tidewaiter-verify"
VOLUME = "tidewaiter-model"
_STORAGE_INITIALIZER = "storage-initializer"
_HUB_SCHEME = "hf://"
_REPOSITORY_ARGUMENTS = ("--model-repository", "--model-store", "--model_store")
_SERVED_NAME = "--served-model-name"


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


def mutate(pod: ModelPod, context: ReviewContext, settings: PreloadSettings) -> Iterable[Change]:
    """Insert the init container and point the servers at what it brings."""
    approval = _approved(context)
    if any(one.name in (CONTAINER, VERIFY_CONTAINER) for one in pod.containers):
        return
    if KSERVE_SOURCE_URI in pod.annotations or _initializer(pod) is not None:
        yield from _verify_after_kserve(pod, approval, settings)
        return
    asked = pod.annotations.get(URI_KEY) or ""
    source = asked or (approval.source if approval and approval.digest else "")
    if not source:
        return
    if not settings.image:
        if asked:
            yield Change(
                "preload the model, but no preloader image is set (settings: mutators.preload.image)", applied=False
            )
        return
    yield from _preload(pod, source, approval, settings)


def _approved(context: ReviewContext) -> Approval | None:
    """The approval, where it holds for this environment now."""
    approval = context.approval
    if not isinstance(approval, Approval) or approval.state is not ApprovalState.APPROVED:
        return None
    if approval.expires is not None and approval.expires <= context.now:
        return None
    return approval if not approval.environments or context.environment in approval.environments else None


def _preload(pod: ModelPod, source: str, approval: Approval | None, settings: PreloadSettings) -> Iterator[Change]:
    servers = [one for one in pod.containers if one.kind is ContainerKind.MAIN and one.framework is not None]
    servers = servers or [one for one in pod.containers if one.kind is ContainerKind.MAIN][:1]
    if not servers:
        return
    hub = source.startswith(_HUB_SCHEME)
    paths = {server.name: _model_path(server) for server in servers}
    taken = [server.name for server in servers if server.mounts_at(paths[server.name])]
    if taken:
        yield Change(
            f"leave the model of {', '.join(taken)} alone: a volume of its own is mounted there", applied=False
        )
        return
    destination = paths[servers[0].name]
    digest = approval.digest if approval else ""
    values = {"source": source, "destination": destination, "layout": "hub" if hub else "files", "digest": digest}
    arguments = _filled(settings.arguments, values)
    container = _container(CONTAINER, arguments, pod, settings, mount_path=destination, read_only=False)
    container["env"] = _credentials(servers, settings)
    if not container["env"]:
        del container["env"]
    items(pod.spec, "initContainers").insert(0, container)
    items(pod.spec, "volumes").append({"name": VOLUME, "emptyDir": {"sizeLimit": settings.size_limit}})
    for server in servers:
        _mount(server, paths[server.name])
        _tell(server, source, paths[server.name], hub=hub)
    verified = f" and verify {digest[:19]}..." if digest else ""
    yield Change(f"preload {source}{verified} into {destination}")


def _model_path(server: Container) -> str:
    """Where the server looks: its own argument, where that is a path; else its system's."""
    for value in _values(server, _REPOSITORY_ARGUMENTS):
        if value.startswith("/"):
            return value.rstrip("/")
    return server.framework.model_path if server.framework is not None else "/mnt/models"


def _values(server: Container, names: tuple[str, ...]) -> Iterator[str]:
    words = [*(server.spec.get("command") or ()), *(server.spec.get("args") or ())]
    for position, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in names:
            if equals:
                yield value
            elif position + 1 < len(words):
                yield words[position + 1]


def _mount(server: Container, path: str) -> None:
    items(server.spec, "volumeMounts").append({"name": VOLUME, "mountPath": path, "readOnly": True})


def _tell(server: Container, source: str, path: str, *, hub: bool) -> None:
    """Make the server load what was brought."""
    if hub:
        for name, value in (("HF_HUB_CACHE", path), ("HUGGINGFACE_HUB_CACHE", path), ("HF_HUB_OFFLINE", "1")):
            if not server.has_env(name):
                items(server.spec, "env").append({"name": name, "value": value})
        return
    renamed = False
    for field in ("command", "args"):
        words = server.spec.get(field)
        if words:
            server.spec[field] = [_local(word, source, path) for word in words]
            renamed = renamed or server.spec[field] != words
    for entry in server.spec.get("env") or ():
        if entry.get("value") == source:
            entry["value"] = path
    framework = server.framework
    if framework is not None and framework.name == "vllm" and renamed and not list(_values(server, (_SERVED_NAME,))):
        # Clients ask by name; without this the name would become the path.
        items(server.spec, "args").append(f"{_SERVED_NAME}={source}")


def _local(word: str, source: str, path: str) -> str:
    name, equals, value = word.partition("=")
    if word == source:
        return path
    return f"{name}={path}" if equals and value == source else word


def _initializer(pod: ModelPod) -> Container | None:
    return next(
        (one for one in pod.containers if one.name == _STORAGE_INITIALIZER and one.kind is ContainerKind.INIT), None
    )


def _verify_after_kserve(pod: ModelPod, approval: Approval | None, settings: PreloadSettings) -> Iterator[Change]:
    """KServe's webhook may run after ours: its container is then there on the second call."""
    initializer = _initializer(pod)
    if initializer is None or approval is None or not approval.digest or not settings.image:
        return
    mounts = initializer.spec.get("volumeMounts") or ()
    volume = next((one for one in mounts if one.get("name") == "kserve-provision-location"), None)
    if volume is None:
        return
    path = str(volume.get("mountPath") or "/mnt/models")
    arguments = _filled(settings.verify_arguments, {"destination": path, "digest": approval.digest})
    container = _container(VERIFY_CONTAINER, arguments, pod, settings, mount_path=path, read_only=True)
    container["volumeMounts"][0]["name"] = volume["name"]
    position = next(index for index, one in enumerate(pod.spec["initContainers"]) if one is initializer.spec)
    pod.spec["initContainers"].insert(position + 1, container)
    yield Change(f"verify {approval.digest[:19]}... after KServe's storage initializer")


def _filled(arguments: Iterable[str], values: dict[str, str]) -> list[str]:
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
    name: str, arguments: list[str], pod: ModelPod, settings: PreloadSettings, *, mount_path: str, read_only: bool
) -> dict[str, Any]:
    mount: dict[str, Any] = {"name": VOLUME, "mountPath": mount_path}
    if read_only:
        mount["readOnly"] = True
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


MUTATOR = Mutator(id="preload", order=50, mutate=mutate, settings=PreloadSettings)
