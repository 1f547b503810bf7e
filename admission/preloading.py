"""What preloading means for one pod: what is brought where, by which container.

The mutator ``preload`` writes it, the rule ``preload-altered`` compares with it, and
``approved-version`` asks which volumes it fills. All three derive it from the pod, the
approval and the settings, so that a container's name proves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from admission.approval import CLAIM_SCHEME, Approval, ApprovalState
from admission.command_line import commands
from admission.context import ReviewContext
from admission.image_reference import parse_image
from admission.kserve_storage import KSERVE_VOLUME, kserve_initializer, kserve_may_follow
from admission.model_reference import URI_KEY
from admission.mutator import MutatorSettings
from admission.pod import Container, ContainerKind, ModelPod
from admission.preload_access import ACCESS_VARIABLES, OUR_FOLDER, covering_mount

MUTATOR_ID = "preload"
CONTAINER = "tidewaiter-preload"
VERIFY_CONTAINER = "tidewaiter-verify"
VOLUME = "tidewaiter-model"
SOURCE_VOLUME = "tidewaiter-source"
SOURCE_PATH = f"{OUR_FOLDER}/source"
"""Where our container has the claim that a model is brought from."""
HUB_SCHEME = "hf://"
OUR_CONTAINERS = (CONTAINER, VERIFY_CONTAINER)
_PLACEHOLDER = re.compile(r"\{(source|destination|layout|digest)\}")
_REPOSITORY_ARGUMENTS = ("--model-repository", "--model-store", "--model_store")


def _default_arguments() -> tuple[str, ...]:
    return ("preload", "--source={source}", "--destination={destination}", "--layout={layout}", "--digest={digest}")


def _default_verify_arguments() -> tuple[str, ...]:
    return ("verify", "--path={destination}", "--digest={digest}")


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
    copied_variables: tuple[str, ...] = Field(default=ACCESS_VARIABLES, alias="copiedVariables")
    """Variables that the preloader gets from the server's container: credentials, endpoints, proxies. The
    volumes of the files that they name are mounted into it, read-only. Without an approved digest those that
    decide whose answers count (HF_ENDPOINT, MLFLOW_TRACKING_URI, SSL_CERT_FILE, SSL_CERT_DIR) are left out."""
    requests: dict[str, str] = Field(default_factory=lambda: {"cpu": "100m", "memory": "256Mi"})
    """Resource requests, cut down to what the pod's own containers ask for."""
    limits: dict[str, str] = Field(default_factory=lambda: {"cpu": "2", "memory": "1Gi"})
    """Resource limits."""


@dataclass(frozen=True, slots=True)
class Preloading:
    """One init container of ours: what it brings or verifies, and for whom.

    ``mount`` is the model's volume in it. ``image`` and ``arguments`` decide what it does;
    resources and credentials make no difference. ``paths`` are where the servers look, by
    container. ``taken`` are servers that have a volume of their own there. ``after`` is the
    container that ours follows; None: it stands first. ``source_mount`` is the volume that the
    model is brought from, where that is a claim, ``claim``, or a folder that a server mounts.
    """

    name: str
    image: str
    arguments: list[str]
    mount: dict[str, Any]
    source: str
    digest: str
    destination: str
    paths: Mapping[str, str]
    taken: tuple[str, ...] = ()
    after: Container | None = None
    source_mount: Mapping[str, Any] | None = None
    claim: str = ""

    @property
    def volume(self) -> str:
        """The name of the volume that holds the model."""
        return str(self.mount["name"])

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
    """The URI that is to be brought: the annotation's, else that of an approval with a digest.

    A source that is a volume claim, or an image that the pod uses already, is there without us.
    """
    approval = approved(context)
    asked = pod.annotations.get(URI_KEY)
    if asked or approval is None or not approval.digest or approval.source.startswith(CLAIM_SCHEME):
        return asked or ""
    return "" if any(approval.names_image(image) for image in _images(pod)) else approval.source


def _images(pod: ModelPod) -> Iterator[str]:
    """The images of the pod's containers and image volumes."""
    for container in pod.containers:
        yield container.image
    for volume in pod.spec.get("volumes") or ():
        image = volume.get("image")
        if isinstance(image, Mapping):
            yield str(image.get("reference") or "")


def preloading(pod: ModelPod, context: ReviewContext, settings: PreloadSettings) -> Preloading | None:
    """What is to be done for ``pod``; None where there is nothing to bring or to verify.

    On a pod that has our container already the answer is the same.
    """
    if not settings.image:
        return None
    if kserve_initializer(pod) is not None or kserve_may_follow(pod):
        return _verifying(pod, context, settings)
    source = wanted_source(pod, context)
    servers = servers_of(pod)
    if not source or not servers:
        return None
    approval = approved(context)
    digest = approval.digest if approval is not None else ""
    paths = {server.name: _model_path(server) for server in servers}
    destination = _destination(pod, paths[servers[0].name])
    layout = "hub" if source.startswith(HUB_SCHEME) else "files"
    claim, folder = _claim(source)
    own = {"name": _volume_of_claim(pod, claim), "mountPath": SOURCE_PATH, "readOnly": True} if claim else None
    if own is None and digest:
        own, folder = _folder_of_server(servers[0], source)
    read_from = f"file://{SOURCE_PATH}{folder}" if own is not None else source
    values = {"source": read_from, "destination": destination, "layout": layout, "digest": digest}
    mount = {"name": VOLUME, "mountPath": destination}
    arguments = _filled(settings.arguments, values)
    taken = tuple(server.name for server in servers if foreign_mount_at(server, paths[server.name]) is not None)
    return Preloading(
        *(CONTAINER, settings.image, arguments, mount, source, digest, destination, paths, taken),
        source_mount=own,
        claim=claim,
    )


def _claim(source: str) -> tuple[str, str]:
    """The claim of a source and the folder in it, with a slash in front; two empty texts for other sources.

    A folder that leads out of itself is no folder of the claim: the source is then left to be refused.
    """
    if not source.startswith(CLAIM_SCHEME):
        return "", ""
    name, _, folder = source.removeprefix(CLAIM_SCHEME).partition("/")
    parts = [part for part in folder.split("/") if part]
    if not name or ".." in parts:
        return "", ""
    return name, "".join(f"/{part}" for part in parts)


def _folder_of_server(server: Container, source: str) -> tuple[dict[str, Any] | None, str]:
    """Our mount of the volume in which a server has the folder of a ``file://`` source, and the path in it.

    Only where a digest is approved: of a path nobody can say whose bytes it holds.
    """
    path = source.removeprefix("file://")
    mount = covering_mount(server, path) if source.startswith("file:///") else None
    if mount is None or mount.get("name") == VOLUME or ".." in path.split("/"):
        return None, ""
    if mount.get("subPath") or mount.get("subPathExpr"):
        return None, ""
    inside = path[len(str(mount["mountPath"]).rstrip("/")) :]
    return {"name": mount.get("name"), "mountPath": SOURCE_PATH, "readOnly": True}, inside.rstrip("/")


def _volume_of_claim(pod: ModelPod, claim: str) -> str:
    """The pod's own volume of a claim, else ours that is to be added."""
    found = (str(one.get("name")) for one in pod.spec.get("volumes") or () if claim_of(one) == claim)
    return next(found, SOURCE_VOLUME)


def claim_of(volume: Mapping[str, Any]) -> str:
    """The claim that a volume is of; empty for other kinds."""
    claim = volume.get("persistentVolumeClaim")
    return str(claim.get("claimName") or "") if isinstance(claim, Mapping) else ""


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
    return Preloading(
        VERIFY_CONTAINER, settings.image, arguments, ours, "", approval.digest, path, {}, after=initializer
    )


def named_as_ours(pod: ModelPod) -> tuple[Container, ...]:
    """Containers with a name of ours, whoever wrote them."""
    return tuple(one for one in pod.containers if one.name in OUR_CONTAINERS)


def servers_of(pod: ModelPod) -> list[Container]:
    """The containers that get the model: those named so by the pod's system, else those of known images."""
    main = [one for one in pod.containers if one.kind is ContainerKind.MAIN]
    named = [one for one in main if one.named_server]
    return named or [one for one in main if one.framework is not None] or main[:1]


def _destination(pod: ModelPod, first: str) -> str:
    """Where our container has the model: what it was told, also when a server has come in front since.

    Its own folder makes no difference to the servers, as long as a container of the pod looks there.
    """
    ours = next((one for one in pod.containers if one.name == CONTAINER), None)
    mounts = (ours.spec.get("volumeMounts") or ()) if ours is not None else ()
    told = next((str(one.get("mountPath") or "").rstrip("/") for one in mounts if one.get("name") == VOLUME), first)
    looked_at = {_model_path(one) for one in pod.containers if one.kind is ContainerKind.MAIN}
    return told if told in looked_at else first


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
    """The values that the server's commands, a shell's line included, give to options of these names."""
    for command in commands(server):
        words = [word.text for word in command]
        for position, word in enumerate(words):
            name, equals, value = word.partition("=")
            if name in names:
                if equals:
                    yield value
                elif position + 1 < len(words):
                    yield words[position + 1]


def foreign_mount_at(server: Container, path: str) -> Mapping[str, Any] | None:
    """The server's mount at ``path`` of another volume than ours."""
    for mount in server.spec.get("volumeMounts") or ():
        if str(mount.get("mountPath") or "").rstrip("/") == path.rstrip("/") and mount.get("name") != VOLUME:
            found: Mapping[str, Any] = mount
            return found
    return None


def _filled(arguments: Iterable[str], values: Mapping[str, str]) -> list[str]:
    """Fill the placeholders in; an argument whose value would be empty is left out."""
    return [
        _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), argument)
        for argument in arguments
        if "{" not in argument or all(values.get(name, name) for name in _PLACEHOLDER.findall(argument))
    ]
