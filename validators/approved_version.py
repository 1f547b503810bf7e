"""Refuses model versions that nobody approved.

Fields: the model reference (labels, annotations and arguments that name the model and
its version), and what each server is told to load.

The version must be approved in the registry for the namespace's environment and not
expired. A label alone approves nothing: every server is held to the approved source.

- A name or URI must be the approved one, in the approved revision: where the source has a
  revision (``hf://org/name@rev``), a server that names another or none is found, unless it
  reads what was preloaded, offline.
- A local path is fine below a volume that our preloader fills (or KServe's storage
  initializer, with our verification where a digest is approved and a preloader is set), or
  where the approved source is that very place: ``pvc://claim/folder``, or ``oci://image``
  for an image volume, a modelcar, or a model that is baked into the server's own image.
  Any other claim, host path, share or folder may hold any model, and is found. A known
  server's usual folder is judged so too when a volume lies there and no argument names one.
- What cannot be told from the pod (a value from a ConfigMap or Secret, a configuration
  file, a shell's variable, a server that is told no model) is found too: silence would
  approve it. So is a pod that only a label ties to a source, and an annotation of KServe's
  that nothing in the pod answers to.
- What a hook or a probe starts is judged like the container's own command.
- A server must not be sent elsewhere, where a source or digest is approved: by variables
  (another hub, a map of names to folders), by ``envFrom``, which may set any of them, by
  code from a volume or a folder that anybody may write to (``PYTHONPATH``, ``LD_PRELOAD``,
  plugins), or by options (``--code-revision``, ``--hf-config-path``). Code that comes with
  the approved revision (``--trust-remote-code``) is approved with it; what that code, or its
  configuration, fetches from other repositories is not seen.

An approval binds the model's bytes, and no server. It makes sure that the approved bytes are
in the pod, and that no server which is known is told to load others. What an image does that
no table knows, or a script of its own, is not seen: it may leave the mounted model alone and
serve one that lies in it, unless ``knownServersOnly`` is set, which finds such containers
where they have an accelerator. Who may bring images is for image-pinned, image-signed and
the allowed registries to say. Nor is seen what a server is told once it runs (Triton's and vLLM's
interfaces that load models), or a package that a volume is mounted over.

Notebooks and training runs have no approved version: the rule is about inference and batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydantic import Field

from admission.approval import Approval, ApprovalState, NotFound, Unavailable
from admission.command_line import commands, starts_ray_node
from admission.context import ReviewContext
from admission.finding import Finding
from admission.frameworks import KSERVE_SOURCE_URI
from admission.image_reference import parse_image
from admission.kserve_storage import INFERENCE_SERVICE_LABEL, KSERVE_INITIALIZER, MODELCAR, unanswered_source
from admission.model_reference import MODEL_KEY, URI_KEY, VERSION_KEY, Load
from admission.model_volumes import ModelVolumes
from admission.pod import Container, ContainerKind, ModelPod
from admission.redirected_loads import redirections
from admission.validator import Applicability, RuleSettings, Validator
from admission.workload import WorkloadClass

_ID = "approved-version"
_HUB_SCHEME = "hf://"
_MLFLOW_SCHEME = "models:/"
_DEFAULT_REVISIONS = ("", "main")
_HUB_CACHES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
_QUANTIZED = ("-hf", "-hfr", "--hf-repo", "LLAMA_ARG_HF_REPO")  # NAME:QUANTIZATION
_ON = ("1", "true", "yes", "on")


class ApprovedVersionSettings(RuleSettings):
    """Settings of approved-version."""

    known_servers_only: bool = Field(default=False, alias="knownServersOnly")
    """Whether a container with an accelerator is found whose image and program no table knows."""


def check(pod: ModelPod, context: ReviewContext, settings: ApprovedVersionSettings) -> Iterable[Finding]:
    """Judge the model reference against the registry's answer."""
    if not pod.loads_model:
        return
    yield from _unanswered(pod)
    model = context.model
    if not model.name or not model.version:
        missing = MODEL_KEY if not model.name else VERSION_KEY
        by = f" (by {model.named_by})" if model.named_by else ""
        found = (
            f"names model {model.name!r}{by} without a version" if model.name else "does not say which model it serves"
        )
        yield _finding("metadata.labels", f"the pod {found}", f"add label {missing}")
        return
    answer = context.approval
    if isinstance(answer, Unavailable):
        yield _finding(
            model.path,
            f"nobody can say whether {model.text} is approved: {answer.reason}",
            "try again once the registry answers; new versions are not admitted without it",
            lapse=True,
        )
    elif isinstance(answer, NotFound):
        known = f"; known versions: {', '.join(answer.known[:8])}" if answer.known else ""
        yield _finding(
            model.path,
            f"model version {model.text} is not in the registry{known}",
            "have it proposed and approved, or set the label to an approved version",
        )
    else:
        judged = list(_judge(answer, context))
        yield from judged
        yield from _brought(answer, context)
        if settings.known_servers_only:
            yield from _unknown_servers(pod, answer, context)
        if not judged:
            yield from _from_where(pod, answer, context)


def _unanswered(pod: ModelPod) -> Iterator[Finding]:
    """An annotation of KServe's that nothing in the pod answers to: it says what is not so."""
    uri = unanswered_source(pod)
    if uri:
        yield _finding(
            f"metadata.annotations[{KSERVE_SOURCE_URI}]",
            f"the annotation asks KServe to bring {uri!r}, and the pod has no container that does "
            f"({KSERVE_INITIALIZER} or {MODELCAR})",
            "leave the annotation to KServe; where it made the pod, see that its webhook is called before the pod is "
            f"judged (label {INFERENCE_SERVICE_LABEL})",
        )


def _from_where(pod: ModelPod, approval: Approval, context: ReviewContext) -> Iterator[Finding]:
    """What the servers load, and whether anything says so."""
    volumes = ModelVolumes(pod, approval, context)
    by_name = {container.name: container for container in pod.containers}
    wrong = [
        one
        for load in context.model.loads
        for one in _loaded(load, by_name[load.container], volumes, approval, context)
    ]
    wrong += _redirected(pod, volumes, approval, context)
    yield from wrong
    wrong += _brought(approval, context)
    if approval.source and not wrong and not _says_where_from(pod, volumes, approval, context):
        yield _finding(
            context.model.path,
            f"nothing in the pod says where {context.model.text} comes from: no argument, no volume and no image is "
            "the approved source",
            f"let the model be preloaded (annotation {URI_KEY}: {approval.source}), or have the image approved as "
            "the source",
        )


def _unknown_servers(pod: ModelPod, approval: Approval, context: ReviewContext) -> Iterator[Finding]:
    """Containers that have an accelerator, and of which nobody knows what they run."""
    loading = {load.container for load in context.model.loads}
    for container in pod.containers:
        known = container.framework is not None or container.name in loading or approval.names_image(container.image)
        if container.accelerators and not known:
            yield Finding(
                rule=_ID,
                path=f"{container.path}.image",
                message=f"nobody can tell what {container.image!r} loads: no table knows the image, and no argument "
                "names a model",
                remedy="use the image of a known server, or have this one approved as the source (oci://IMAGE@sha256:...)",
                container=container.name,
            )


def _redirected(pod: ModelPod, volumes: ModelVolumes, approval: Approval, context: ReviewContext) -> Iterator[Finding]:
    """Servers that may load something else than their arguments say."""
    if not (approval.source or approval.digest):
        return
    wanted = approval.source.partition("@")[2] if approval.source.startswith(_HUB_SCHEME) else ""
    loading = {load.container for load in context.model.loads}
    by_name = {load.container for load in context.model.loads if not load.local}
    for container in pod.containers:
        serves = container.name in loading or container.framework is not None or container.accelerators
        if not serves or (container.kind is ContainerKind.INIT and not container.sidecar):
            continue
        from_hub = container.name in by_name and not _reads_preloaded(container, volumes)
        for one in redirections(container, volumes, from_hub=from_hub, revision=wanted):
            yield Finding(rule=_ID, path=one.path, message=one.found, remedy=one.remedy, container=container.name)


def _judge(approval: Approval, context: ReviewContext) -> Iterator[Finding]:
    model = context.model
    if approval.state is not ApprovalState.APPROVED:
        yield Finding(
            rule=_ID,
            path=model.path,
            message=f"model version {model.text} is {approval.state.value}",
            remedy="use an approved version, or have this one approved",
            always=approval.state is ApprovalState.REVOKED,
        )
        return
    if approval.expires is not None and approval.expires <= context.now:
        yield _finding(
            model.path,
            f"the approval of {model.text} expired on {approval.expires.date().isoformat()}",
            "have it renewed, or use a version whose approval holds",
            lapse=True,
        )
    if context.environment and approval.environments and context.environment not in approval.environments:
        yield _finding(
            model.path,
            f"model version {model.text} is approved for {', '.join(approval.environments)}, "
            f"not for {context.environment}",
            f"have it approved for {context.environment}, or deploy it where it is approved",
        )


def _says_where_from(pod: ModelPod, volumes: ModelVolumes, approval: Approval, context: ReviewContext) -> bool:
    """Whether anything but a label ties the pod to the approved source."""
    # Of a pod that exists, what was brought is seen by its volume below.
    if (context.model.uri and pod.template) or any(not load.implied for load in context.model.loads):
        return True
    return any(
        approval.names_image(container.image)
        or starts_ray_node(commands(container))
        or any(
            found.volume is not None and volumes.is_approved(container, found)
            for mount in container.spec.get("volumeMounts") or ()
            for found in [volumes.origin(container, str(mount.get("mountPath") or "/"))]
        )
        for container in pod.containers
        if container.kind is not ContainerKind.INIT
    )


def _brought(approval: Approval, context: ReviewContext) -> Iterator[Finding]:
    """What is brought before the server starts."""
    uri = context.model.uri
    if uri and not (approval.source or approval.digest):
        yield _finding(
            context.model.path,
            f"the pod brings {uri!r}, and the approval of {context.model.text} says neither source nor digest",
            "have its source and digest recorded in the registry",
        )
    elif uri and approval.source and uri.rstrip("/") != approval.source.rstrip("/"):
        yield _finding(
            context.model.path,
            f"the pod brings {uri!r}, which is not the approved source of {context.model.text}",
            f"use {approval.source}",
        )


def _loaded(
    load: Load, container: Container, volumes: ModelVolumes, approval: Approval, context: ReviewContext
) -> Iterator[Finding]:
    if load.unknown:
        if not _reads_preloaded(container, volumes):
            yield _found(
                load,
                f"nobody can tell what {load.argument} loads: {load.unknown}",
                f"name the model in the container's own arguments, as {_wanted(approval)}",
            )
    elif load.local:
        yield from _from_path(load, container, volumes, approval, context)
    elif not _names(load, container, approval):
        yield _found(
            load,
            f"{load.argument} loads {load.source!r}, which is not the approved {context.model.text}",
            f"load {_wanted(approval)}, or name what is loaded in label {MODEL_KEY}",
        )
    elif shadow := _shadow(load, container, volumes):
        yield _found(
            load,
            f"{load.argument} loads {load.source!r}, and a folder of that name may come first in {shadow}, "
            "where a volume is mounted",
            "mount the volume elsewhere",
        )
    elif load.argument == "image":
        yield from _image_version(load, container, approval, context)
    elif not _reads_preloaded(container, volumes):
        yield from _revision(load, approval, context)


def _from_path(
    load: Load, container: Container, volumes: ModelVolumes, approval: Approval, context: ReviewContext
) -> Iterator[Finding]:
    found = volumes.origin(container, load.source)
    if volumes.is_approved(container, found) or (load.implied and found.volume is None):
        return
    if found.volume is None:
        remedy = "have the image approved as the source (oci://IMAGE@sha256:...)"
    else:
        remedy = "have that place approved as the source"
    yield _found(
        load,
        f"{load.argument} loads {load.source!r} from {found.text}, which is not the approved source "
        f"({approval.source or 'none is recorded'}) of {context.model.text}",
        f"let the model be preloaded (annotation {URI_KEY}: {approval.source or 'URI'}), or {remedy}",
    )


def _image_version(load: Load, container: Container, approval: Approval, context: ReviewContext) -> Iterator[Finding]:
    """An image that is its model: the version is its tag, or its digest, which wins at the runtime."""
    image = parse_image(container.image)
    if image is None or approval.names_image(container.image):
        return
    if approval.digest and image.digest:
        matches = image.digest == approval.digest
    else:
        matches = image.tag == approval.version and not approval.digest
    if not matches:
        yield _found(
            load,
            f"image {container.image!r} is not version {approval.version} of {approval.model}",
            f"use the image of the approved {context.model.text}",
        )


def _revision(load: Load, approval: Approval, context: ReviewContext) -> Iterator[Finding]:
    if approval.source and not approval.source.startswith(_HUB_SCHEME):
        return
    wanted = approval.source.partition("@")[2]
    _, _, given = load.source.partition("@") if load.source.startswith(_HUB_SCHEME) else ("", "", load.version)
    given = given or load.version
    allowed = (wanted,) if wanted else (*_DEFAULT_REVISIONS, approval.version)
    if given in allowed:
        return
    found = f"revision {given!r}" if given else "no revision"
    yield _found(
        load,
        f"{load.argument} loads {load.source!r} in {found}, while "
        f"{f'revision {wanted!r}' if wanted else 'no revision of its own'} is approved for {context.model.text}",
        f"set the revision to {wanted}" if wanted else "leave the revision out",
    )


def _names(load: Load, container: Container, approval: Approval) -> bool:
    """Whether a name or URI is that of the approved model.

    Where a source is approved, the model's name alone is none: a server would look it up
    in a hub that nobody approved.
    """
    source = load.source.rstrip("/")
    if load.argument == "image":
        return source == approval.model or approval.names_image(container.image)
    if source.startswith(_MLFLOW_SCHEME):
        return source in (approval.source.rstrip("/"), f"{_MLFLOW_SCHEME}{approval.model}/{approval.version}")
    if load.argument in _QUANTIZED:
        source = source.partition(":")[0]
    wanted = approval.source.rstrip("/") or approval.model
    return _hub_name(source) == _hub_name(wanted)


def _hub_name(source: str) -> str:
    """A hub's name without scheme and revision; any other URI as it is."""
    if source.startswith(_HUB_SCHEME):
        return source.removeprefix(_HUB_SCHEME).partition("@")[0]
    return source


def _shadow(load: Load, container: Container, volumes: ModelVolumes) -> str:
    """Where a folder may lie that a server takes for the hub's model of that name; empty where none."""
    if ":" in load.source or load.argument == "image":
        return ""
    for mount in container.spec.get("volumeMounts") or ():
        path = str(mount.get("mountPath") or "").rstrip("/")
        if path.endswith(f"/{load.source}"):
            return path
    folder = container.spec.get("workingDir")
    found = volumes.origin(container, f"{folder}/{load.source}") if folder else None
    return str(folder) if found is not None and found.volume is not None else ""


def _reads_preloaded(container: Container, volumes: ModelVolumes) -> bool:
    """Whether a hub server can only load what was brought: offline, from our volume."""
    if (container.env("HF_HUB_OFFLINE") or "").lower() not in _ON:
        return False
    caches = [container.env(name) for name in _HUB_CACHES if container.has_env(name)]
    return bool(caches) and all(
        cache and found.volume is not None and volumes.is_approved(container, found)
        for cache in caches
        for found in [volumes.origin(container, cache or "")]
    )


def _wanted(approval: Approval) -> str:
    return approval.source or approval.model


def _found(load: Load, message: str, remedy: str) -> Finding:
    return Finding(rule=_ID, path=load.path, message=message, remedy=remedy, container=load.container)


def _finding(path: str, message: str, remedy: str, *, lapse: bool = False) -> Finding:
    return Finding(rule=_ID, path=path, message=message, remedy=remedy, lapse=lapse)


VALIDATOR = Validator(
    id=_ID,
    check=check,
    settings=ApprovedVersionSettings,
    applies=Applicability(workloads=frozenset({WorkloadClass.INFERENCE, WorkloadClass.BATCH})),
    judges_what_runs=True,
)
