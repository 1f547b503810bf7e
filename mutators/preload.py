"""Brings the model onto the pod before its server starts, and checks its digest.

Fields: ``spec.initContainers`` (one, first), ``spec.volumes`` (one ``emptyDir``), the
servers' ``volumeMounts``, ``env`` and model argument.

A pod is preloaded when its annotation ``tidewaiter.dev/model-uri`` asks for it, or when
its model version is approved with a source and a digest: the digest is handed on, and
the preloader refuses any other bytes. It gets the variables by which a source is reached from
the server's container, with the volumes of the files that they name. The init container is
itself "restricted", asks for no more than the pod's own containers (the scheduler counts the
larger of both), and stands first, so that what checks the model after it (model-validation-operator) finds it there.

A server downloads by name whatever was brought, unless it is told: hub servers get the
hub's own layout under ``HF_HUB_CACHE`` and ``HF_HUB_OFFLINE``; an argument that names the
URI is turned into the local path, in a shell's line too.

Where KServe's storage initializer brings the model, nothing is brought twice: a
container that only verifies the approved digest follows it.

A volume claim (``pvc://CLAIM/FOLDER``) is brought where the annotation asks for it: it is mounted
into the init container, read-only. So is the volume in which the server has the folder of an
approved source ``file:///FOLDER``, where its digest is approved.

Another webhook may add a server after the first call: on the second it gets the same volume.

A container or volume with a name of ours that an author wrote is left as it is, since the
API server refuses a second one; rule ``preload-altered`` complains where it differs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

from admission.context import ReviewContext
from admission.model_reference import URI_KEY
from admission.mutator import Change, Mutator
from admission.pod import Container, ContainerKind, ModelPod, items
from admission.preload_access import access_of
from admission.preload_alterations import made_by_us
from admission.preloading import (
    MUTATOR_ID,
    SOURCE_VOLUME,
    VOLUME,
    Preloading,
    PreloadSettings,
    claim_of,
    named_as_ours,
    option_values,
    preloading,
    servers_of,
    volume_kind,
    volume_of,
)
from admission.quantity import parse_quantity

_SERVED_NAME = "--served-model-name"


def mutate(pod: ModelPod, context: ReviewContext, settings: PreloadSettings) -> Iterable[Change]:
    """Insert the init container and point the servers at what it brings."""
    ours = named_as_ours(pod)
    if ours:
        yield from _reach_new_servers(pod, ours, preloading(pod, context, settings))
        return
    if not settings.image and pod.annotations.get(URI_KEY):
        yield Change(
            "preload the model, but no preloader image is set (settings: mutators.preload.image)", applied=False
        )
    wanted = preloading(pod, context, settings)
    if wanted is None:
        return
    if wanted.after is not None:
        position = next(index for index, one in enumerate(pod.spec["initContainers"]) if one is wanted.after.spec)
        pod.spec["initContainers"].insert(position + 1, _container(wanted, pod, settings))
        yield Change(f"verify {wanted.digest[:19]}... after KServe's storage initializer")
    elif wanted.taken:
        yield Change(
            f"leave the model of {', '.join(wanted.taken)} alone: a volume of its own is mounted there", applied=False
        )
    elif volume_of(pod, VOLUME) is not None:
        yield Change(f"leave the model alone: the pod has a volume {VOLUME} of its own", applied=False)
    elif _missing_source(pod, wanted) and volume_of(pod, SOURCE_VOLUME) is not None:
        yield Change(f"leave the model alone: the pod has a volume {SOURCE_VOLUME} of its own", applied=False)
    else:
        yield from _preload(pod, wanted, settings)


def _preload(pod: ModelPod, wanted: Preloading, settings: PreloadSettings) -> Iterator[Change]:
    items(pod.spec, "initContainers").insert(0, _container(wanted, pod, settings))
    items(pod.spec, "volumes").append({"name": VOLUME, "emptyDir": {"sizeLimit": settings.size_limit}})
    if _missing_source(pod, wanted):
        claim = {"claimName": wanted.claim, "readOnly": True}
        items(pod.spec, "volumes").append({"name": SOURCE_VOLUME, "persistentVolumeClaim": claim})
    for server in servers_of(pod):
        _mount(server, wanted)
    verified = f" and verify {wanted.digest[:19]}..." if wanted.digest else ""
    yield Change(f"preload {wanted.source}{verified} into {wanted.destination}")


def _missing_source(pod: ModelPod, wanted: Preloading) -> bool:
    """Whether the model is brought from a claim that the pod has no volume of."""
    return bool(wanted.claim) and not any(claim_of(one) == wanted.claim for one in pod.spec.get("volumes") or ())


def _reach_new_servers(pod: ModelPod, ours: Iterable[Container], wanted: Preloading | None) -> Iterator[Change]:
    """Give the model to servers that another webhook has added since the first call.

    Only next to a container that is as we make it: an author's is left to rule preload-altered.
    """
    if wanted is None or wanted.after is not None or wanted.taken:
        return
    volume = volume_of(pod, VOLUME)
    if volume is None or volume_kind(volume) != "emptyDir" or not all(made_by_us(one, wanted) for one in ours):
        return
    for server in servers_of(pod):
        if not any(mount.get("name") == VOLUME for mount in server.spec.get("volumeMounts") or ()):
            _mount(server, wanted)
            yield Change(f"mount the preloaded model into {server.name} at {wanted.paths[server.name]}")


def _mount(server: Container, wanted: Preloading) -> None:
    path = wanted.paths[server.name]
    items(server.spec, "volumeMounts").append({"name": VOLUME, "mountPath": path, "readOnly": True})
    _tell(server, wanted.source, path, hub=wanted.hub)


def _tell(server: Container, source: str, path: str, *, hub: bool) -> None:
    """Make the server load what was brought."""
    if hub:
        for name, value in (("HF_HUB_CACHE", path), ("HUGGINGFACE_HUB_CACHE", path), ("HF_HUB_OFFLINE", "1")):
            if not server.has_env(name):
                items(server.spec, "env").append({"name": name, "value": value})
        return
    framework = server.framework
    # Clients ask by name; without this the name would become the path.
    names = framework is not None and framework.name == "vllm" and not list(option_values(server, (_SERVED_NAME,)))
    renamed = False
    for field in ("command", "args"):
        words = server.spec.get(field)
        if words:
            told = [_told(word, source, path, names=names) for word in words]
            server.spec[field] = told
            renamed = renamed or any(old != new and not _is_line(old) for old, new in zip(words, told, strict=True))
    for entry in server.spec.get("env") or ():
        if entry.get("value") == source:
            entry["value"] = path
    if names and renamed:
        items(server.spec, "args").append(f"{_SERVED_NAME}={source}")


def _told(word: str, source: str, path: str, *, names: bool) -> str:
    if _is_line(word):
        return _told_in_line(word, source, path, names=names and _SERVED_NAME not in word)
    name, equals, value = word.partition("=")
    if word == source:
        return path
    return f"{name}={path}" if equals and value == source else word


def _is_line(word: str) -> bool:
    """Whether an argument is a line for a shell, as after ``sh -c``."""
    return any(character.isspace() for character in word.strip())


def _told_in_line(line: str, source: str, path: str, *, names: bool) -> str:
    """The URI as a word, or as the value of an option, with the quotes around it."""
    pattern = re.compile(rf"(?<![^\s=\"'])(?P<open>[\"']?){re.escape(source)}(?P<close>[\"']?)(?![^\s;&|)\"'])")
    found = list(pattern.finditer(line))
    told = pattern.sub(lambda match: f"{match['open']}{path}{match['close']}", line)
    if not names or not found:
        return told
    end = len(told) - (len(line) - found[-1].end())
    return f"{told[:end]} {_SERVED_NAME}={source}{told[end:]}"


def _container(wanted: Preloading, pod: ModelPod, settings: PreloadSettings) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": wanted.name,
        "image": wanted.image,
        "args": wanted.arguments,
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
        "volumeMounts": [wanted.mount, *([wanted.source_mount] if wanted.source_mount is not None else [])],
    }
    if wanted.after is None:
        access = access_of(servers_of(pod), settings.copied_variables, verified=bool(wanted.digest))
        container["volumeMounts"] += access.mounts
        container |= {"env": access.env} if access.env else {}
    return container


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


MUTATOR = Mutator(id=MUTATOR_ID, order=50, mutate=mutate, settings=PreloadSettings)
