"""Makes a pod meet Pod Security "restricted", with a read-only root where that works.

Fields: ``spec.securityContext``, each container's ``securityContext``, writable
mounts and variables that the server needs, ``spec.automountServiceAccountToken``.

Source: Pod Security Standards, profile "restricted"; the servers' writable paths are
those of the framework table. What is unset is filled, what is stricter stays, what
conflicts is left for rule ``security-posture`` to complain about.

Two things break at the kubelet, where no admission test can see it: a uid that the
image does not know, and a read-only root. They are applied to images of the framework
table and only previewed for others (setting ``unknownImages``). A container that mounts
a volume below ``/root`` is left as it is: no other user could reach it there.

``runAsNonRoot`` always comes with a numeric uid, since the kubelet refuses images whose
user is root or a name. The service account's token is already mounted when webhooks run,
so its volume and mounts go too, unless the pod names a service account of its own, asks
for the token, or its system needs one.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pydantic import Field

from admission.context import ReviewContext
from admission.mutator import Change, Mutator, MutatorSettings
from admission.namespace import Mode
from admission.pod import Container, ContainerKind, ModelPod, child, items

SCRATCH_VOLUME = "tidewaiter-tmp"
_TOKEN_VOLUME = "kube-api-access-"  # noqa: S105  # a volume's name, no password
_UNPRIVILEGED_PORTS = "net.ipv4.ip_unprivileged_port_start"
_FIRST_UNPRIVILEGED_PORT = 1024
# A Deployment's warnings come to a terminal: who has a dozen containers knows their names.
_MOST_NAMES = 5
_RUNTIME_DEFAULT = {"type": "RuntimeDefault"}


class SecurityContextSettings(MutatorSettings):
    """Settings of security-context."""

    unknown_images: Mode = Field(default=Mode.PREVIEW, alias="unknownImages")
    """What happens to the uid, capabilities and root of images that no table knows."""
    default_uid: int = Field(default=1000, ge=1, alias="defaultUid")
    """The uid of a container whose image and pod name none."""
    keep_named_tokens: bool = Field(default=True, alias="keepNamedTokens")
    """Leave the token of a pod that names a service account other than "default"."""


def mutate(pod: ModelPod, context: ReviewContext, settings: SecurityContextSettings) -> Iterable[Change]:
    """Fill in what "restricted" demands."""
    if pod.is_windows:
        return
    lasting = [one for one in pod.containers if one.kind is not ContainerKind.EPHEMERAL]
    full = [one for one in lasting if _fully_known(one) or settings.unknown_images is Mode.APPLY]
    full = [one for one in full if not _needs_root(one, pod)]
    yield from _pod_level(pod, full, settings, everyone=len(full) == len(lasting))
    changed = [container.name for container in pod.containers if _container_level(container)]
    if changed:
        yield Change(f"forbid privilege escalation in {_listed(changed)}")
    yield from _unprivileged(pod, full, context, settings)
    yield from _preview(pod, full, settings)
    yield from _without_token(pod, settings)


def _fully_known(container: Container) -> bool:
    return container.framework is not None and container.framework.uid is not None


def _needs_root(container: Container, pod: ModelPod) -> bool:
    """Whether the author built the container on being root, so that a uid would break it."""
    context = container.spec.get("securityContext") or {}
    uid = _uid_of(container, pod)
    return (
        bool(context.get("privileged"))
        or uid == 0
        or _non_root_of(container, pod) is False
        or any(
            f"{mount.get('mountPath') or ''}/".startswith("/root/")
            for mount in container.spec.get("volumeMounts") or ()
        )
    )


def _uid_of(container: Container, pod: ModelPod) -> int | None:
    for context in (container.spec.get("securityContext") or {}, pod.spec.get("securityContext") or {}):
        uid = context.get("runAsUser")
        if uid is not None:
            return int(uid)
    return None


def _wanted_uid(container: Container, pod: ModelPod, settings: SecurityContextSettings) -> int:
    """The author's uid, else the image's, else the settings'."""
    own, framework = _uid_of(container, pod), container.framework
    if own is not None:
        return own
    return framework.uid if framework is not None and framework.uid is not None else settings.default_uid


def _non_root_of(container: Container, pod: ModelPod) -> bool | None:
    for context in (container.spec.get("securityContext") or {}, pod.spec.get("securityContext") or {}):
        non_root = context.get("runAsNonRoot")
        if non_root is not None:
            return bool(non_root)
    return None


def _pod_level(
    pod: ModelPod, full: list[Container], settings: SecurityContextSettings, *, everyone: bool
) -> Iterator[Change]:
    context = child(pod.spec, "securityContext")
    said = []
    if context.get("seccompProfile") is None:
        context["seccompProfile"] = dict(_RUNTIME_DEFAULT)
        said.append("seccomp profile RuntimeDefault")
    if everyone and full and context.get("runAsNonRoot") is None:
        context["runAsNonRoot"] = True
        said.append("runAsNonRoot")
    if said:
        yield Change(f"set {' and '.join(said)} on the pod")
    yield from _volume_group(pod, full, context, settings)


def _volume_group(
    pod: ModelPod, full: list[Container], context: dict[str, Any], settings: SecurityContextSettings
) -> Iterator[Change]:
    """A group for volumes, so that the uid may write to them; owners change once at most."""
    if context.get("fsGroup") is not None or not _has_writable_claim(pod):
        return
    uids = {_wanted_uid(container, pod, settings) for container in full}
    if len(uids) == 1:
        group = context["fsGroup"] = uids.pop()
        if context.get("fsGroupChangePolicy") is None:
            context["fsGroupChangePolicy"] = "OnRootMismatch"
        yield Change(f"give volumes to group {group}, changing owners only on mismatch")


def _has_writable_claim(pod: ModelPod) -> bool:
    return any(
        volume.get("ephemeral") is not None
        or (volume.get("persistentVolumeClaim") is not None and not volume["persistentVolumeClaim"].get("readOnly"))
        for volume in pod.spec.get("volumes") or ()
    )


def _container_level(container: Container) -> bool:
    """What breaks no image at its start; returns whether anything changed."""
    if container.kind is ContainerKind.EPHEMERAL:
        return False
    context = container.spec.get("securityContext") or {}
    added = ((context.get("capabilities") or {}).get("add")) or ()
    if context.get("allowPrivilegeEscalation") is not None:
        return False
    if context.get("privileged") or "SYS_ADMIN" in added or "CAP_SYS_ADMIN" in added:
        # The API server refuses the combination; rule security-posture complains.
        return False
    child(container.spec, "securityContext")["allowPrivilegeEscalation"] = False
    return True


def _unprivileged(
    pod: ModelPod, full: list[Container], context: ReviewContext, settings: SecurityContextSettings
) -> Iterator[Change]:
    alike: dict[tuple[str, ...], list[str]] = {}
    may_be_read_only = _root_may_be_read_only(pod, context)
    scratch = functools.cache(lambda: _scratch_volume(pod))
    for container in full:
        said = list(_drop_capabilities(container))
        uid_is_ours = _uid_of(container, pod) is None
        said += _non_root(container, pod, settings)
        said += _read_only_root(container, scratch, may_be_read_only=may_be_read_only)
        if uid_is_ours or _has_read_only_root(container):
            said += _writable_home(container)
        if said:
            alike.setdefault(tuple(said), []).append(container.name)
    for said_of, names in alike.items():
        yield Change(f"in {_listed(names)}: {', '.join(said_of)}")
    yield from _low_ports(pod, full)


def _drop_capabilities(container: Container) -> Iterator[str]:
    security = child(container.spec, "securityContext")
    dropped = (security.get("capabilities") or {}).get("drop") or ()
    if "ALL" not in dropped:
        child(security, "capabilities")["drop"] = [*dropped, "ALL"]
        yield "drop all capabilities"


def _non_root(container: Container, pod: ModelPod, settings: SecurityContextSettings) -> Iterator[str]:
    security = child(container.spec, "securityContext")
    if _uid_of(container, pod) is None:
        uid = security["runAsUser"] = _wanted_uid(container, pod, settings)
        yield f"run as user {uid}"
    if _non_root_of(container, pod) is None:
        security["runAsNonRoot"] = True
        yield "runAsNonRoot"


def _read_only_root(container: Container, scratch: Callable[[], str], *, may_be_read_only: bool) -> Iterator[str]:
    framework = container.framework
    security = child(container.spec, "securityContext")
    if framework is None or not framework.read_only_root:
        return
    wanted = security.get("readOnlyRootFilesystem")
    if wanted is None:
        if not may_be_read_only:
            return
        security["readOnlyRootFilesystem"] = True
        yield "read-only root"
    elif not wanted:
        return
    mounted = [path for path in ("/tmp", *framework.directories) if _scratch(container, scratch, path)]
    if mounted:
        yield f"writable {' and '.join(mounted)}"


def _has_read_only_root(container: Container) -> bool:
    return bool((container.spec.get("securityContext") or {}).get("readOnlyRootFilesystem"))


def _writable_home(container: Container) -> Iterator[str]:
    """A uid that the image did not expect has no home, and its caches lie under /root."""
    framework = container.framework
    if framework is None:
        return
    variables = [("HOME", "/tmp"), *framework.environment] if framework.home else list(framework.environment)
    added = [name for name, value in variables if _set_variable(container, name, value)]
    if added:
        yield f"{', '.join(added)} below /tmp"


def _root_may_be_read_only(pod: ModelPod, context: ReviewContext) -> bool:
    """nvidia-cdi-hook needs a writable root on some nodes (nvidia-container-toolkit #2026)."""
    return not pod.uses_accelerator or all(
        pool.read_only_root for pool in context.pools.values() if context.workload in pool.workloads
    )


def _scratch(container: Container, scratch: Callable[[], str], path: str) -> bool:
    if container.mounts_at(path):
        return False
    # One volume, a folder of it for each container and path.
    folder = f"{container.name}{path.replace('/', '-')}"
    items(container.spec, "volumeMounts").append({"name": scratch(), "mountPath": path, "subPath": folder})
    return True


def _scratch_volume(pod: ModelPod) -> str:
    """The name of an empty folder of the pod, made where it is missing.

    An author's claim of the same name is none: what is written to /tmp must not stay.
    """
    volumes = items(pod.spec, "volumes")
    by_name = {volume.get("name"): volume for volume in volumes}
    names = itertools.chain([SCRATCH_VOLUME], (f"{SCRATCH_VOLUME}-{number}" for number in itertools.count(2)))
    name = next(one for one in names if one not in by_name or by_name[one].get("emptyDir") is not None)
    if name not in by_name:
        volumes.append({"name": name, "emptyDir": {}})
    return name


def _set_variable(container: Container, name: str, value: str) -> bool:
    if container.has_env(name):
        return False
    items(container.spec, "env").append({"name": name, "value": value})
    return True


def _low_ports(pod: ModelPod, full: list[Container]) -> Iterator[Change]:
    """A server that listens below 1024 may go on doing so without root."""
    low = sorted(port for container in full for port in set(_ports(container)) if 0 < port < _FIRST_UNPRIVILEGED_PORT)
    if not low or pod.spec.get("hostNetwork"):
        return
    sysctls = items(child(pod.spec, "securityContext"), "sysctls")
    if any(one.get("name") == _UNPRIVILEGED_PORTS for one in sysctls):
        return
    sysctls.append({"name": _UNPRIVILEGED_PORTS, "value": str(low[0])})
    yield Change(f"let it listen on port {', '.join(map(str, low))} without root")


def _ports(container: Container) -> Iterator[int]:
    declared = [int(port.get("containerPort") or 0) for port in container.spec.get("ports") or ()]
    yield from declared
    framework = container.framework
    if framework is not None and not declared and not container.has_env("PORT"):
        yield framework.default_port


def _preview(pod: ModelPod, full: list[Container], settings: SecurityContextSettings) -> Iterator[Change]:
    if settings.unknown_images is Mode.OFF:
        return
    settled = {container.path for container in full}
    unknown = [
        container.name
        for container in pod.containers
        if container.path not in settled
        and container.kind is not ContainerKind.EPHEMERAL
        and not _needs_root(container, pod)
        and _not_restricted(container, pod)
    ]
    if unknown:
        images = "its image is" if len(unknown) == 1 else "their images are"
        yield Change(
            f"run {_listed(unknown)} as user {settings.default_uid} without capabilities, but {images} not "
            "known to work so: set runAsUser, runAsNonRoot and capabilities.drop [ALL] yourself",
            applied=False,
        )


def _not_restricted(container: Container, pod: ModelPod) -> bool:
    dropped = ((container.spec.get("securityContext") or {}).get("capabilities") or {}).get("drop") or ()
    return _non_root_of(container, pod) is not True or "ALL" not in dropped


def _without_token(pod: ModelPod, settings: SecurityContextSettings) -> Iterator[Change]:
    spec = pod.spec
    if spec.get("automountServiceAccountToken") is not None:
        return
    account = spec.get("serviceAccountName") or "default"
    if account != "default" and settings.keep_named_tokens:
        return
    if any(framework.needs_token for framework in pod.frameworks):
        return
    spec["automountServiceAccountToken"] = False
    tokens = {
        volume.get("name")
        for volume in spec.get("volumes") or ()
        if str(volume.get("name") or "").startswith(_TOKEN_VOLUME) and volume.get("projected") is not None
    }
    if tokens:
        spec["volumes"] = [volume for volume in spec["volumes"] if volume.get("name") not in tokens]
        for container in pod.containers:
            mounts = container.spec.get("volumeMounts")
            if mounts:
                container.spec["volumeMounts"] = [one for one in mounts if one.get("name") not in tokens]
    yield Change("take the service account token away")


def _listed(names: list[str]) -> str:
    if len(names) > _MOST_NAMES:
        names = [*names[: _MOST_NAMES - 1], f"{len(names) - _MOST_NAMES + 1} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


MUTATOR = Mutator(id="security-context", order=30, mutate=mutate, settings=SecurityContextSettings)
