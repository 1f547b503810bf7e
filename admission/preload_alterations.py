"""Where a pod has a container or volume of ours that is not as we would make it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from admission.context import ReviewContext
from admission.kserve_storage import KSERVE_INITIALIZER
from admission.pod import Container, ContainerKind, ModelPod
from admission.preload_access import HARMLESS_MOUNTS, OTHER_SERVERS, real_folder
from admission.preloading import (
    OUR_CONTAINERS,
    SOURCE_VOLUME,
    VERIFY_CONTAINER,
    VOLUME,
    Preloading,
    claim_of,
    foreign_mount_at,
    named_as_ours,
    preload_settings,
    preloading,
    same_image,
    volume_kind,
    volume_of,
)

# Variables by which an interpreter or the loader runs other code than the image's.
_CODE_VARIABLES = re.compile(r"(LD_|PYTHON|TIDEWAITER_)[A-Z0-9_]*|PATH|BASH_ENV|ENV|GCONV_PATH")


@dataclass(frozen=True, slots=True)
class Alteration:
    """One way in which a pod is not as preloading would have it.

    ``path`` is the field in the author's object, ``found`` a clause and ``remedy`` what to do.
    """

    path: str
    found: str
    remedy: str
    container: str = ""


def alterations(pod: ModelPod, context: ReviewContext) -> Iterator[Alteration]:
    """Where ``pod`` has a container or volume of ours that is not as we would make it."""
    yield from alterations_of(pod, wanted_here(pod, context))


def wanted_here(pod: ModelPod, context: ReviewContext) -> Preloading | None:
    """What is to be done for ``pod`` by the settings that hold here."""
    settings = preload_settings(context)
    return preloading(pod, context, settings) if settings is not None else None


def made_by_us(container: Container, wanted: Preloading) -> bool:
    """Whether a container does what ours would do, and nothing else."""
    return not any(True for _ in _of_container(container, wanted))


def alterations_of(pod: ModelPod, wanted: Preloading | None) -> Iterator[Alteration]:
    """Where ``pod`` is not as ``wanted``, what preloading means for it, has it."""
    ours = named_as_ours(pod)
    for container in ours:
        yield from _of_container(container, wanted)
    if wanted is None or (not ours and wanted.volume != VOLUME):
        return
    yield from _of_volume(pod, wanted, made=bool(ours))
    if ours:
        yield from _of_mounts(pod, wanted)
        yield from _of_order(pod, wanted)


def _of_container(container: Container, wanted: Preloading | None) -> Iterator[Alteration]:
    if wanted is None or wanted.name != container.name:
        found = [("", "the name is Tidewaiter's own, and nothing of it belongs into this pod")]
    else:
        found = [*_no_waiting(container), *_other_work(container, wanted), *_other_code(container)]
        found += _other_sources(container, wanted)
        found += [("volumeMounts", one) for one in _wrong_mounts(container.spec, wanted)]
    for field, clause in found:
        yield Alteration(
            f"{container.path}.{field}" if field else container.path,
            clause,
            f"leave container {container.name} out of what you write; it is added by itself",
            container.name,
        )


def _no_waiting(container: Container) -> Iterator[tuple[str, str]]:
    if container.kind is not ContainerKind.INIT:
        yield "", "it is no init container, so the server does not wait for it"
    if container.sidecar:
        yield "restartPolicy", "it restarts always, so the server does not wait for it"


def _other_work(container: Container, wanted: Preloading) -> Iterator[tuple[str, str]]:
    arguments = container.spec.get("args")
    if not same_image(container.image, wanted.image):
        yield "image", f"image {container.image!r} is not the preloader {wanted.image!r}"
    if list(arguments or ()) != wanted.arguments:
        yield "args", f"arguments {_shown(arguments)} are not {_shown(wanted.arguments)}"


def _other_code(container: Container) -> Iterator[tuple[str, str]]:
    for field in ("command", "workingDir", "envFrom"):
        if container.spec.get(field):
            yield field, f"{field} is set, so that other code may run"
    for entry in container.spec.get("env") or ():
        name = entry.get("name") or ""
        if _CODE_VARIABLES.fullmatch(name):
            yield f"env[{name}]", f"{name} is set, so that other code may run"


def _other_sources(container: Container, wanted: Preloading) -> Iterator[tuple[str, str]]:
    """Without an approved digest nothing shows that somebody else answered."""
    for entry in container.spec.get("env") or ():
        name = entry.get("name")
        if not wanted.digest and name in OTHER_SERVERS:
            yield f"env[{name}]", f"{name} is set, and no digest is approved that would show another model"


def _wrong_mounts(spec: Mapping[str, Any], wanted: Preloading) -> Iterator[str]:
    mounts = [dict(one) for one in spec.get("volumeMounts") or ()]
    own: list[Mapping[str, Any]] = []
    for expected in (wanted.mount, wanted.source_mount):
        if expected is None:
            continue
        found = next(
            (one for one in mounts if one.get("name") == expected["name"] and _same_mount(one, expected)), None
        )
        if found is None:
            yield f"volume {expected['name']!r} is not mounted at {expected['mountPath']}"
        else:
            own.append(found)
    source = real_folder(wanted.source_mount["mountPath"]) if wanted.source_mount is not None else None
    for mount in mounts:
        path = real_folder(str(mount.get("mountPath") or ""))
        over = source is not None and (path.startswith(source) or source.startswith(path))
        harmless = path.startswith(HARMLESS_MOUNTS) and not over and mount.get("name") != VOLUME
        if not harmless and not any(mount is one for one in own):
            yield f"volume {mount.get('name')!r} is mounted at {mount.get('mountPath')}, where it may change what runs"


def _same_mount(mount: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    return (
        str(mount.get("mountPath") or "").rstrip("/") == expected["mountPath"].rstrip("/")
        and bool(mount.get("readOnly")) == bool(expected.get("readOnly"))
        and not mount.get("subPath")
        and not mount.get("subPathExpr")
    )


def _of_volume(pod: ModelPod, wanted: Preloading, *, made: bool) -> Iterator[Alteration]:
    """The model's volume is an empty folder of ours; an author's of the same name is in the way."""
    if wanted.source_mount is not None and wanted.source_mount["name"] == SOURCE_VOLUME:
        yield from _of_source(pod, wanted)
    volume = volume_of(pod, wanted.volume)
    if volume is None:
        return
    kind = volume_kind(volume)
    if kind != "emptyDir" or not made:
        yield Alteration(
            f"spec.volumes[{wanted.volume}]",
            f"volume {wanted.volume!r} ({kind}) is not the empty folder that the model is brought into",
            "give your volume another name",
        )


def _of_source(pod: ModelPod, wanted: Preloading) -> Iterator[Alteration]:
    """A volume of our name that is another than the claim of the source."""
    volume = volume_of(pod, SOURCE_VOLUME)
    if volume is not None and claim_of(volume) != wanted.claim:
        yield Alteration(
            f"spec.volumes[{SOURCE_VOLUME}]",
            f"volume {SOURCE_VOLUME!r} is not the claim {wanted.claim!r} that the model is brought from",
            "give your volume another name",
        )


def _of_mounts(pod: ModelPod, wanted: Preloading) -> Iterator[Alteration]:
    """Nobody but ours writes to the model's volume, and nothing lies over or in it."""
    for container in pod.containers:
        if container.name not in (*OUR_CONTAINERS, KSERVE_INITIALIZER):
            yield from _writes(container, wanted.volume)
        path = wanted.paths.get(container.name) if container.kind is ContainerKind.MAIN else None
        if path:
            yield from _reads_elsewhere(container, wanted.volume, path.rstrip("/"))


def _writes(container: Container, volume: str) -> Iterator[Alteration]:
    for mount in container.spec.get("volumeMounts") or ():
        if mount.get("name") == volume and not mount.get("readOnly"):
            yield _of_mount(container, f"volume {volume!r} is mounted writable", "set readOnly: true")


def _reads_elsewhere(container: Container, volume: str, path: str) -> Iterator[Alteration]:
    mounts = container.spec.get("volumeMounts") or ()
    for mount in mounts:
        if str(mount.get("mountPath") or "").startswith(f"{path}/"):
            found = f"volume {mount.get('name')!r} is mounted inside the preloaded model at {mount['mountPath']}"
            yield _of_mount(container, found, "mount it elsewhere")
    foreign = foreign_mount_at(container, path)
    if foreign is not None:
        found = f"volume {foreign.get('name')!r} is mounted at {path}, where the preloaded model belongs"
        yield _of_mount(container, found, "mount it elsewhere, or tell the server another path for its own models")
        return
    expected = {"mountPath": path, "readOnly": True}
    if not any(one.get("name") == volume and _same_mount(one, expected) for one in mounts):
        yield _of_mount(
            container,
            f"volume {volume!r} with the preloaded model is not mounted at {path}",
            "create the pod again, and let no other webhook take the mount away",
        )


def _of_order(pod: ModelPod, wanted: Preloading) -> Iterator[Alteration]:
    """What verifies stands after what brings."""
    names = [one.get("name") for one in pod.spec.get("initContainers") or ()]
    if wanted.after is None or VERIFY_CONTAINER not in names:
        return
    if names.index(VERIFY_CONTAINER) < names.index(wanted.after.name):
        ours = next(one for one in named_as_ours(pod) if one.name == VERIFY_CONTAINER)
        yield Alteration(
            ours.path,
            f"it runs before {wanted.after.name}, so that it verifies nothing",
            "leave it out of what you write; it is added by itself",
            ours.name,
        )


def _of_mount(container: Container, found: str, remedy: str) -> Alteration:
    return Alteration(f"{container.path}.volumeMounts", found, remedy, container.name)


def _shown(arguments: Any) -> str:
    return " ".join(map(str, arguments or ())) or "(none)"
