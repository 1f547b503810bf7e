"""The final pod meets Pod Security "restricted", with documented exceptions.

Fields: those of the checks in k8s.io/pod-security-admission ``policy/check_*.go``, the
profile "restricted" (which includes "baseline") in the version of Kubernetes 1.37; every
container, init and ephemeral ones included. On Windows pods the Linux-only fields are not
asked for; ``runAsNonRoot`` is none of them. Within a user namespace (``hostUsers: false``)
root is nobody on the node, so that ``runAsNonRoot`` and ``runAsUser`` may say what they
like; setting ``rootInUserNamespace: false`` takes that back. What the pod's own context
says wrong is found even where every container says better.

Exceptions: capabilities by setting ``allowedCapabilities``, IPC_LOCK out of the box,
which RDMA needs to pin memory; by setting ``exemptImages`` the init containers of Istio and
Linkerd out of the box, which program the pod's network: they may be root and add NET_ADMIN
and NET_RAW, and are judged like others in everything else. An image's name is the author's
to write, so that one which keeps running, or has a command of its own, is no such container.
With both empty the rule finds what Pod Security admission of 1.37 finds, no more and no less.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import Field

from admission.context import ReviewContext
from admission.finding import Finding
from admission.image_reference import parse_image
from admission.pod import Container, ContainerKind, ModelPod
from admission.validator import RuleSettings, Validator

_ID = "security-posture"
_VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
_SECCOMP = ("RuntimeDefault", "Localhost")
_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
        "net.ipv4.tcp_slow_start_after_idle",
        "net.ipv4.tcp_notsent_lowat",
    }
)
_SELINUX_TYPES = (None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
_APPARMOR_TYPES = ("RuntimeDefault", "Localhost")
_APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"
_HANDLERS = ("httpGet", "tcpSocket")
_OF_THE_NETWORK = ("NET_ADMIN", "NET_RAW")


class SecurityPostureSettings(RuleSettings):
    """Settings of security-posture."""

    allowed_capabilities: tuple[str, ...] = Field(default=("IPC_LOCK",), alias="allowedCapabilities")
    """Capabilities that a container may add besides NET_BIND_SERVICE."""
    exempt_images: tuple[str, ...] = Field(
        default=("docker.io/istio/proxyv2", "gcr.io/istio-release/proxyv2", "cr.l5d.io/linkerd/proxy-init"),
        alias="exemptImages",
    )
    """Images (registry/repository) of init containers that may be root and add NET_ADMIN and NET_RAW."""
    root_in_user_namespace: bool = Field(default=True, alias="rootInUserNamespace")
    """Whether a pod with "hostUsers: false" may run as root, as upstream has it since 1.35."""


def check(pod: ModelPod, _context: ReviewContext, settings: SecurityPostureSettings) -> Iterable[Finding]:
    """Find every field that keeps the pod from "restricted"."""
    yield from _host(pod)
    yield from _volumes(pod)
    yield from _annotations(pod)
    pod_context = pod.spec.get("securityContext") or {}
    may_be_root = settings.root_in_user_namespace and pod.spec.get("hostUsers") is False
    yield from _pod_context(pod_context, windows=pod.is_windows)
    if not may_be_root:
        yield from _root_of_pod(pod_context)
    for container in pod.containers:
        programs_network = _programs_network(container, settings)
        yield from _container(container)
        if not (may_be_root or programs_network):
            yield from _root(container, pod_context, windows=pod.is_windows)
        if not pod.is_windows:
            allowed = {"NET_BIND_SERVICE", *settings.allowed_capabilities}
            yield from _linux(container, pod_context, {*allowed, *_OF_THE_NETWORK} if programs_network else allowed)


def _programs_network(container: Container, settings: SecurityPostureSettings) -> bool:
    """Whether it is a mesh's init container: its image's own program, which ends before the servers start."""
    if container.kind is not ContainerKind.INIT or container.sidecar or container.spec.get("command"):
        return False
    image = parse_image(container.image)
    return image is not None and f"{image.registry}/{image.repository}" in settings.exempt_images


def _host(pod: ModelPod) -> Iterator[Finding]:
    for flag in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.spec.get(flag):
            yield _finding(f"spec.{flag}", f"{flag} is true", "remove it")


def _volumes(pod: ModelPod) -> Iterator[Finding]:
    for index, volume in enumerate(pod.spec.get("volumes") or ()):
        kinds = [key for key, value in volume.items() if key != "name" and value is not None]
        # One of no kind at all becomes an emptyDir.
        if kinds and _VOLUMES.isdisjoint(kinds):
            yield _finding(
                f"spec.volumes[{index}]",
                f"volume {volume.get('name')!r} is of type {kinds[0]}",
                f"use one of {', '.join(sorted(_VOLUMES))}",
            )


def _annotations(pod: ModelPod) -> Iterator[Finding]:
    for key, value in pod.annotations.items():
        if key.startswith(_APPARMOR_ANNOTATION) and not (
            value in ("", "runtime/default") or value.startswith("localhost/")
        ):
            yield _finding(
                f"metadata.annotations[{key}]",
                f"AppArmor profile is {value!r}",
                "use runtime/default or localhost/NAME",
            )


def _pod_context(context: Mapping[str, Any], *, windows: bool) -> Iterator[Finding]:
    path = "spec.securityContext"
    for sysctl in context.get("sysctls") or ():
        if sysctl.get("name") not in _SYSCTLS:
            yield _finding(
                f"{path}.sysctls", f"sysctl {sysctl.get('name')!r} is set", "remove it; only safe sysctls are allowed"
            )
    yield from _profiles(context, path, "")
    if not windows and context.get("seccompProfile") is not None:
        yield from _seccomp(context["seccompProfile"], path, "")


def _root_of_pod(context: Mapping[str, Any]) -> Iterator[Finding]:
    path = "spec.securityContext"
    if context.get("runAsNonRoot") is False:
        yield _finding(f"{path}.runAsNonRoot", "it is false", "set it to true")
    if context.get("runAsUser") == 0:
        yield _finding(f"{path}.runAsUser", "the pod runs as root (runAsUser 0)", "use a uid above 0")


def _profiles(context: Mapping[str, Any], path: str, container: str) -> Iterator[Finding]:
    """What a pod's and a container's security context have in common."""
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type") not in _SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield _finding(
            f"{path}.seLinuxOptions", "SELinux options change the type, user or role", "remove them", container
        )
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield _finding(f"{path}.windowsOptions.hostProcess", "hostProcess is true", "remove it", container)
    apparmor = context.get("appArmorProfile")
    if apparmor is not None and apparmor.get("type") not in _APPARMOR_TYPES:
        yield _finding(
            f"{path}.appArmorProfile",
            f"AppArmor profile is {_json(apparmor.get('type'))}",
            "use RuntimeDefault",
            container,
        )


def _container(container: Container) -> Iterator[Finding]:
    context = container.spec.get("securityContext") or {}
    path, name = f"{container.path}.securityContext", container.name
    if context.get("privileged"):
        yield _finding(f"{path}.privileged", "the container is privileged", "remove it", name)
    if context.get("procMount") not in (None, "Default"):
        yield _finding(f"{path}.procMount", f"procMount is {context['procMount']!r}", "remove it", name)
    yield from _profiles(context, path, name)
    yield from _host_ports(container)
    yield from _host_of_handlers(container)


def _root(container: Container, pod_context: Mapping[str, Any], *, windows: bool) -> Iterator[Finding]:
    context = container.spec.get("securityContext") or {}
    path, name = f"{container.path}.securityContext", container.name
    non_root = context.get("runAsNonRoot")
    # Where the pod says something, that is judged at the pod, once.
    if non_root is False or (non_root is None and pod_context.get("runAsNonRoot") is None):
        remedy = "set it to true" if windows else "set it to true, and runAsUser to a uid above 0"
        yield _finding(f"{path}.runAsNonRoot", f"it is {_json(non_root)}", remedy, name)
    if context.get("runAsUser") == 0:
        yield _finding(f"{path}.runAsUser", "the container runs as root (runAsUser 0)", "use a uid above 0", name)


def _linux(container: Container, pod_context: Mapping[str, Any], allowed: set[str]) -> Iterator[Finding]:
    """What a container on Windows has not."""
    context = container.spec.get("securityContext") or {}
    path, name = f"{container.path}.securityContext", container.name
    if context.get("allowPrivilegeEscalation") is not False:
        yield _finding(
            f"{path}.allowPrivilegeEscalation",
            f"it is {_json(context.get('allowPrivilegeEscalation'))}",
            "set it to false",
            name,
        )
    yield from _capabilities(context, path, name, allowed)
    profile = context.get("seccompProfile")
    if profile is not None or pod_context.get("seccompProfile") is None:
        yield from _seccomp(profile or {}, path, name)


def _host_ports(container: Container) -> Iterator[Finding]:
    for index, port in enumerate(container.spec.get("ports") or ()):
        if port.get("hostPort"):
            yield _finding(
                f"{container.path}.ports[{index}].hostPort",
                f"host port {port['hostPort']} is used",
                "use a Service",
                container.name,
            )


def _host_of_handlers(container: Container) -> Iterator[Finding]:
    """Probes and hooks that name a host let a pod probe the network; loopback is the node's (since 1.34)."""
    lifecycle = container.spec.get("lifecycle") or {}
    handlers = {f"lifecycle.{key}": lifecycle.get(key) for key in ("postStart", "preStop")}
    handlers.update({key: container.spec.get(key) for key in ("livenessProbe", "readinessProbe", "startupProbe")})
    for field, handler in handlers.items():
        for kind in _HANDLERS:
            action = (handler or {}).get(kind) or {}
            host = action.get("host") if isinstance(action, Mapping) else None
            if host:
                yield _finding(
                    f"{container.path}.{field}.{kind}.host", f"host is {host!r}", "remove it", container.name
                )


def _capabilities(context: Mapping[str, Any], path: str, name: str, allowed: set[str]) -> Iterator[Finding]:
    capabilities = context.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or ()):
        yield _finding(f"{path}.capabilities.drop", "capabilities are not dropped", 'set it to ["ALL"]', name)
    foreign = [one for one in capabilities.get("add") or () if one not in allowed]
    if foreign:
        yield _finding(
            f"{path}.capabilities.add",
            f"{', '.join(foreign)} is added",
            f"add none but {', '.join(sorted(allowed))}",
            name,
        )


def _seccomp(profile: Mapping[str, Any], path: str, name: str) -> Iterator[Finding]:
    if profile.get("type") not in _SECCOMP:
        yield _finding(
            f"{path}.seccompProfile",
            f"seccomp profile is {_json(profile.get('type'))}",
            "set type RuntimeDefault",
            name,
        )


def _json(value: object) -> str:
    return "not set" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def _finding(path: str, message: str, remedy: str, container: str = "") -> Finding:
    return Finding(rule=_ID, path=path, message=message, remedy=remedy, container=container)


VALIDATOR = Validator(id=_ID, check=check, settings=SecurityPostureSettings)
