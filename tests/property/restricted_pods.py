"""Pods for and against Pod Security "restricted": every field that it reads, in every value worth a try.

Three sources, all the same in every run: one value off at a time, on a good pod and on a bare
one; the pod's value against the container's, where one outranks the other; and seeded mixtures
of several. Whether the API server takes such a pod at all is for the API server to say.
"""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Iterator
from typing import Any

Pod = dict[str, Any]
Path = tuple[str, ...]
Values = list[Any]


class _Absent:
    """Stands for a field that is not there, which null is not."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = _Absent()
FLAG: Values = [ABSENT, None, False, True]
UID: Values = [ABSENT, None, 0, 1, 65534]
NOTHING: Values = [ABSENT, None, {}]

LOCALHOST = {"type": "Localhost", "localhostProfile": "profiles/model.json"}
PROFILES: Values = [ABSENT, None, {"type": "RuntimeDefault"}, {"type": "Unconfined"}, LOCALHOST]
SELINUX: Values = [
    *NOTHING, {"type": ""}, {"type": None}, {"type": "container_t"}, {"type": "container_init_t"},
    {"type": "container_kvm_t"}, {"type": "container_engine_t"}, {"type": "container_engine_t", "level": "s0:c1"},
    {"type": "spc_t"}, {"type": "Container_t"}, {"user": ""}, {"user": "root"}, {"role": ""}, {"role": "sysadm_r"},
    {"level": "s0"}, {"type": "spc_t", "user": "u", "role": "r"},
]  # fmt: skip
WINDOWS_OPTIONS: Values = [*NOTHING, {"hostProcess": None}, {"hostProcess": False}, {"runAsUserName": "u"}]
HOST_PROCESS = {"hostProcess": True, "runAsUserName": "NT AUTHORITY\\SYSTEM"}
CAPABILITIES = (
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT", "NET_RAW", "NET_ADMIN", "IPC_LOCK", "SYS_ADMIN", "SYS_PTRACE", "ALL",
    "net_bind_service", "CAP_NET_BIND_SERVICE", "Net_Bind_Service", "",
)  # fmt: skip
DROPS: Values = [
    ABSENT, None, [], ["ALL"], ["all"], ["All"], ["CAP_ALL"], ["KILL"], ["KILL", "ALL"], ["ALL", "ALL"], ["NET_RAW"],
]  # fmt: skip
ADDS: Values = [ABSENT, None, [], *([one] for one in CAPABILITIES), ["NET_BIND_SERVICE", "CHOWN"]]
HOSTS: Values = [ABSENT, None, "", "127.0.0.1", "::1", "localhost", "10.0.0.1", "example.com"]
PORTS: Values = [
    ABSENT, None, [], *([{"containerPort": 80, "hostPort": one}] for one in (ABSENT, None, 0, 80)),
    [{"containerPort": 80}, {"containerPort": 81, "hostPort": 81}],
    [{"containerPort": 80, "hostPort": 80, "protocol": "UDP", "name": "dns"}],
]  # fmt: skip
HANDLERS: Values = [
    *({kind: {"port": 80, "host": host}} for kind in ("httpGet", "tcpSocket") for host in HOSTS),
    {"exec": {"command": ["true"]}},
]  # fmt: skip
SYSCTLS = (
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem", "net.ipv4.tcp_slow_start_after_idle", "net.ipv4.tcp_notsent_lowat",
    "kernel.msgmax", "kernel.shmmax", "net.core.somaxconn", "net.ipv4.tcp_tw_reuse", "net/ipv4/tcp_rmem", "fs.mqueue.msg_max",
)  # fmt: skip
VOLUMES: dict[str, Any] = {
    "configMap": {"name": "c"}, "csi": {"driver": "d.example.com"}, "downwardAPI": {"items": []}, "emptyDir": {},
    "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}},
    "image": {"reference": "acme/model:1"}, "persistentVolumeClaim": {"claimName": "c"}, "projected": {"sources": []},
    "secret": {"secretName": "s"},
    "hostPath": {"path": "/data"}, "gcePersistentDisk": {"pdName": "d"}, "awsElasticBlockStore": {"volumeID": "v"},
    "gitRepo": {"repository": "r"}, "nfs": {"server": "s", "path": "/p"},
    "iscsi": {"targetPortal": "p", "iqn": "iqn.2020-01.com.example:t", "lun": 0}, "glusterfs": {"endpoints": "e", "path": "p"},
    "rbd": {"monitors": ["m"], "image": "i"}, "flexVolume": {"driver": "acme/d"}, "cinder": {"volumeID": "v"},
    "cephfs": {"monitors": ["m"]}, "flocker": {"datasetName": "d"}, "fc": {"targetWWNs": ["w"], "lun": 0},
    "azureFile": {"secretName": "s", "shareName": "s"}, "vsphereVolume": {"volumePath": "p"},
    "quobyte": {"registry": "r:1", "volume": "v"}, "azureDisk": {"diskName": "d", "diskURI": "https://x.example/d"},
    "photonPersistentDisk": {"pdID": "p"}, "portworxVolume": {"volumeID": "v"},
    "scaleIO": {"gateway": "g", "system": "s", "volumeName": "v", "secretRef": {"name": "s"}}, "storageos": {"volumeName": "v"},
}  # fmt: skip
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP = "seccomp.security.alpha.kubernetes.io/pod"
ANNOTATIONS: Values = [
    ABSENT, None, {}, *({f"{_APPARMOR}main": one} for one in ("runtime/default", "localhost/model", "unconfined", "")),
    {_SECCOMP: "unconfined"}, {_SECCOMP: "runtime/default"},
    {"container.seccomp.security.alpha.kubernetes.io/main": "unconfined"}, {"example.com/apparmor": "unconfined"},
]  # fmt: skip

CONTEXT_FIELDS: dict[Path, Values] = {
    ("securityContext",): NOTHING,
    ("securityContext", "runAsNonRoot"): FLAG,
    ("securityContext", "runAsUser"): UID,
    ("securityContext", "runAsGroup"): UID,
    ("securityContext", "seccompProfile"): PROFILES,
    ("securityContext", "appArmorProfile"): PROFILES,
    ("securityContext", "seLinuxOptions"): SELINUX,
    ("securityContext", "windowsOptions"): WINDOWS_OPTIONS,
}
SECURITY_FIELDS: dict[Path, Values] = {
    **CONTEXT_FIELDS,
    ("securityContext", "allowPrivilegeEscalation"): FLAG,
    ("securityContext", "privileged"): FLAG,
    ("securityContext", "readOnlyRootFilesystem"): FLAG,
    ("securityContext", "procMount"): [ABSENT, None, "Default", "Unmasked"],
    ("securityContext", "capabilities"): NOTHING,
    ("securityContext", "capabilities", "drop"): DROPS,
    ("securityContext", "capabilities", "add"): ADDS,
}
"""What any container may have, ephemeral ones included."""

PROBED_FIELDS: dict[Path, Values] = {
    ("livenessProbe",): [None, *HANDLERS],
    ("readinessProbe",): [None, *HANDLERS],
    ("startupProbe",): [None, *HANDLERS],
    ("lifecycle",): NOTHING,
    ("lifecycle", "postStart"): [None, *HANDLERS],
    ("lifecycle", "preStop"): [None, *HANDLERS],
}
"""What a container has that runs as long as the pod."""

POD_FIELDS: dict[Path, Values] = {
    ("hostNetwork",): FLAG,
    ("hostPID",): FLAG,
    ("hostIPC",): FLAG,
    ("hostUsers",): FLAG,
    ("shareProcessNamespace",): FLAG,
    ("os",): [ABSENT, None, {"name": "linux"}],
    **CONTEXT_FIELDS,
    ("securityContext", "fsGroup"): [0],
    ("securityContext", "supplementalGroups"): [[0]],
    ("securityContext", "sysctls"): [ABSENT, None, [], *([{"name": one, "value": "1"}] for one in SYSCTLS)],
    ("volumes",): [ABSENT, None, [], *([{"name": "v", kind: source}] for kind, source in VOLUMES.items()), [{"name": "v"}],
                   [{"name": "v", "emptyDir": {}, "hostPath": None}], [{"name": "v", "emptyDir": None, "hostPath": {"path": "/"}}],
                   [{"name": "v", "emptyDir": {}}, {"name": "w", "nfs": {"server": "s", "path": "/p"}}]],
}  # fmt: skip
WINDOWS_FIELDS = (("runAsNonRoot",), ("windowsOptions",))
MAIN, INIT, SIDECAR = "containers", "initContainers", "sidecar"
KINDS = (MAIN, INIT, SIDECAR)


def bare_pod(**spec: Any) -> Pod:
    """A pod with one container that says nothing about safety."""
    containers = [{"name": "main", "image": "acme/main:1"}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers, **spec}}


def good_context() -> Pod:
    """All that a container needs, whatever the pod says."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def good_pod(*, at_the_pod: bool = False, **spec: Any) -> Pod:
    """A pod that meets "restricted", by its container alone or as far as possible by the pod."""
    made = bare_pod(**spec)
    context = made["spec"]["containers"][0]["securityContext"] = good_context()
    if at_the_pod:
        made["spec"]["securityContext"] = {key: context.pop(key) for key in ("runAsNonRoot", "seccompProfile")}
    return made


def windows_pod(**context: Any) -> Pod:
    """A pod for Windows, which may not have any of the fields for Linux."""
    return bare_pod(os={"name": "windows"}, securityContext={"runAsNonRoot": True, **context})


def put(target: Pod, path: Path, value: Any) -> None:
    """Set the field, or take it away; parents are made as needed."""
    *parents, last = path
    for part in parents:
        if not isinstance(target.get(part), dict):
            if value is ABSENT:
                return
            target[part] = {}
        target = target[part]
    if value is ABSENT:
        target.pop(last, None)
    else:
        target[last] = copy.deepcopy(_without_absent(value))


def container_of(pod: Pod, kind: str, *, like_main: bool = True) -> Pod:
    """The pod's container of that kind, made where it has none."""
    if kind == MAIN:
        found: Pod = pod["spec"]["containers"][0]
        return found
    made = copy.deepcopy(pod["spec"]["containers"][0]) if like_main else {"image": "acme/other:1"}
    made["name"] = kind.lower()
    if kind == SIDECAR:
        made["restartPolicy"] = "Always"
    pod["spec"].setdefault("initContainers", []).append(made)
    return made


def fields_of(kind: str) -> dict[Path, Values]:
    """What a container of that kind may have."""
    own = {**SECURITY_FIELDS, ("ports",): PORTS}
    return own if kind == INIT else {**own, **PROBED_FIELDS}


def one_off() -> Iterator[Pod]:
    """One value of one field, on a good pod, on one that is good by its own context, and on a bare one."""
    for make in (good_pod, lambda: good_pod(at_the_pod=True), bare_pod):
        yield from _at_the_pod(make)
        for kind in KINDS:
            for path, values in fields_of(kind).items():
                for value in values:
                    pod = make()
                    put(container_of(pod, kind), path, value)
                    yield pod


def _at_the_pod(make: Any) -> Iterator[Pod]:
    for path, values in POD_FIELDS.items():
        for value in values:
            pod = make()
            put(pod["spec"], path, value)
            yield pod
    for value in ANNOTATIONS:
        pod = make()
        put(pod["metadata"], ("annotations",), value)
        yield pod


def outranked() -> Iterator[Pod]:
    """What the pod says against what two containers say, within a user namespace and without."""
    for field, values in (
        ("runAsNonRoot", FLAG),
        ("runAsUser", [ABSENT, None, 0, 5]),
        ("seccompProfile", PROFILES[:-1]),
    ):
        for at_pod, first, second, host_users in itertools.product(values, values, values, FLAG):
            pod = good_pod()
            other = container_of(pod, INIT)
            put(pod["spec"], ("hostUsers",), host_users)
            put(pod["spec"], ("securityContext", field), at_pod)
            put(pod["spec"]["containers"][0], ("securityContext", field), first)
            put(other, ("securityContext", field), second)
            yield pod
    for proc_mount, host_users in itertools.product(["Default", "Unmasked"], FLAG):
        pod = good_pod(hostUsers=host_users) if host_users is not ABSENT else good_pod()
        pod["spec"]["containers"][0]["securityContext"]["procMount"] = proc_mount
        yield pod


def on_windows() -> Iterator[Pod]:
    """Pods for Windows: what is asked of them, and what is not."""
    for at_pod, at_container, os_name in itertools.product(FLAG, FLAG, ("windows", "linux")):
        pod = bare_pod(os={"name": os_name})
        put(pod["spec"], ("securityContext", "runAsNonRoot"), at_pod)
        put(container_of(pod, MAIN), ("securityContext", "runAsNonRoot"), at_container)
        yield pod
    for options in WINDOWS_OPTIONS:
        for pod in (windows_pod(windowsOptions=options) if options is not ABSENT else windows_pod(), windows_pod()):
            put(container_of(pod, MAIN), ("securityContext", "windowsOptions"), options)
            yield pod
    for in_pod, in_container, os_name in itertools.product((True, False), (True, False), ("windows", "linux")):
        pod = windows_pod(**({"windowsOptions": HOST_PROCESS} if in_pod else {}))
        pod["spec"] |= {"hostNetwork": True, "os": {"name": os_name}}
        if in_container:
            put(container_of(pod, MAIN), ("securityContext", "windowsOptions"), HOST_PROCESS)
        yield pod
    for path, values in {("ports",): PORTS, **PROBED_FIELDS}.items():
        for value in values:
            pod = windows_pod()
            put(container_of(pod, MAIN), path, value)
            yield pod
    for kind, source in VOLUMES.items():
        yield windows_pod() | {"spec": {**windows_pod()["spec"], "volumes": [{"name": "v", kind: source}]}}


def mixed(seed: int, count: int) -> Iterator[Pod]:
    """Several values off at once, over up to four containers; most of them differ little from a good pod."""
    chance = random.Random(seed)  # noqa: S311  # the same pods in every run, nothing to guess
    for _ in range(count):
        pod = chance.choice([good_pod, good_pod, lambda: good_pod(at_the_pod=True), bare_pod])()
        for kind in (INIT, SIDECAR):
            if chance.random() < 0.4:
                container_of(pod, kind, like_main=chance.random() < 0.8)
        if chance.random() < 0.4:
            pod["spec"]["containers"].append({**copy.deepcopy(pod["spec"]["containers"][0]), "name": "second"})
        for _ in range(chance.choice((0, 1, 1, 2, 2, 3, 4, 6))):
            _disturb(pod, chance)
        yield pod


def _disturb(pod: Pod, chance: random.Random) -> None:
    whom = chance.randrange(3)
    if whom == 0:
        target, fields = pod["spec"], POD_FIELDS
    elif whom == 1 and chance.random() < 0.1:
        target, fields = pod["metadata"], {("annotations",): ANNOTATIONS}
    else:
        listed = [*pod["spec"]["containers"], *pod["spec"].get("initContainers", ())]
        target = chance.choice(listed)
        fields = fields_of(INIT if target["name"] == INIT.lower() else MAIN)
    path = chance.choice(sorted(fields))
    put(target, path, chance.choice(fields[path]))


def security_contexts(seed: int, count: int) -> Iterator[Any]:
    """Security contexts of one container: each value alone, on a good one and on none, and mixtures."""
    for start, (path, values) in itertools.product((True, False), SECURITY_FIELDS.items()):
        for value in values:
            holder: Pod = {"securityContext": good_context()} if start else {}
            put(holder, path, value)
            yield holder.get("securityContext", ABSENT)
    chance = random.Random(seed)  # noqa: S311  # as above
    for _ in range(count):
        holder = {"securityContext": good_context()}
        for path in chance.sample(sorted(SECURITY_FIELDS), chance.randint(2, 4)):
            put(holder, path, chance.choice(SECURITY_FIELDS[path]))
        yield holder.get("securityContext", ABSENT)


def _without_absent(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_absent(inner) for key, inner in value.items() if inner is not ABSENT}
    return [_without_absent(one) for one in value] if isinstance(value, list) else value
