"""Where the files at a path of a container come from, and who vouches for them."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from admission.approval import CLAIM_SCHEME, Approval
from admission.context import ReviewContext
from admission.pod import Container, ModelPod
from admission.preload_alterations import alterations_of, wanted_here
from admission.preloading import (
    KSERVE_VOLUME,
    OUR_CONTAINERS,
    kserve_initializer,
    named_as_ours,
    volume_kind,
    volume_of,
)

_MODELCAR = "modelcar"


@dataclass(frozen=True, slots=True)
class Origin:
    """What lies at a path: a folder of a volume, or (``volume`` is None) of the image.

    ``inside`` is the path in the volume, empty where a variable decides.
    """

    volume: Mapping[str, Any] | None
    inside: str = ""

    @property
    def text(self) -> str:
        """For people: which volume, of which kind, holding what."""
        if self.volume is None:
            return "its own image"
        kind = volume_kind(self.volume)
        source = self.volume.get(kind)
        names = ("claimName", "path", "server", "reference", "name", "secretName", "driver")
        held = [str(source[name]) for name in names if source.get(name)] if isinstance(source, Mapping) else []
        return f"volume {self.volume.get('name')!r} ({' '.join([kind, *held])})"


def origin(pod: ModelPod, container: Container, path: str) -> Origin:
    """Where ``path`` in ``container`` comes from: the innermost mount that covers it."""
    wanted = posixpath.normpath(posixpath.join("/", path.removeprefix("file://")))
    covering = [
        (mounted, mount)
        for mount in container.spec.get("volumeMounts") or ()
        for mounted in [posixpath.normpath(mount.get("mountPath") or "/")]
        if wanted == mounted or wanted.startswith(f"{mounted.rstrip('/')}/")
    ]
    if not covering:
        return Origin(None)
    mounted, mount = max(covering, key=lambda one: len(one[0]))
    volume = volume_of(pod, mount.get("name") or "") or {"name": mount.get("name"), "unknown volume": {}}
    if mount.get("subPathExpr"):
        return Origin(volume)
    relative = wanted[len(mounted) :].lstrip("/")
    return Origin(volume, posixpath.normpath(posixpath.join("/", mount.get("subPath") or "", relative)))


def is_approved(pod: ModelPod, container: Container, found: Origin, approval: Approval, context: ReviewContext) -> bool:
    """Whether what lies there is the approved model, by what is known at admission."""
    if found.volume is None:
        return approval.names_image(container.image)
    if found.volume.get("name") in _filled(pod, context, approval):
        return True
    image, claim = found.volume.get("image"), found.volume.get("persistentVolumeClaim")
    if isinstance(image, Mapping):
        return approval.names_image(str(image.get("reference") or ""))
    return isinstance(claim, Mapping) and _names_claim(approval, str(claim.get("claimName") or ""), found.inside)


def _names_claim(approval: Approval, claim: str, inside: str) -> bool:
    name, _, folder = approval.source.removeprefix(CLAIM_SCHEME).partition("/")
    wanted = posixpath.normpath(posixpath.join("/", folder)).rstrip("/")
    return (
        approval.source.startswith(CLAIM_SCHEME)
        and name == claim
        and bool(inside)
        and (inside == wanted or inside.startswith(f"{wanted}/"))
    )


def _filled(pod: ModelPod, context: ReviewContext, approval: Approval) -> frozenset[str]:
    """Volumes that hold the approved model: filled by our preloader, or by KServe with the same source.

    KServe's initializer is followed by our verification where a digest is approved and a
    preloader is set; without either nobody can verify, and it is taken at its word.
    """
    wanted = wanted_here(pod, context)
    if wanted is not None:
        whole = bool(named_as_ours(pod)) and not any(alterations_of(pod, wanted))
        return frozenset({wanted.volume}) if whole else frozenset()
    return frozenset({*_filled_by_kserve(pod, approval), *_filled_by_modelcar(pod, approval)})


def _filled_by_kserve(pod: ModelPod, approval: Approval) -> set[str]:
    initializer = kserve_initializer(pod)
    volume = volume_of(pod, KSERVE_VOLUME)
    if initializer is None or volume is None or volume_kind(volume) != "emptyDir":
        return set()
    uris = [str(one).rstrip("/") for one in initializer.spec.get("args") or ()][::2]
    known = initializer.framework is not None and initializer.framework.name == "kserve"
    others = [one for one in pod.containers if one.name not in (initializer.name, *OUR_CONTAINERS)]
    if not known or initializer.spec.get("command") or any(_writes(one, KSERVE_VOLUME) for one in others):
        return set()
    return {KSERVE_VOLUME} if uris and set(uris) == {approval.source.rstrip("/")} else set()


def _filled_by_modelcar(pod: ModelPod, approval: Approval) -> set[str]:
    """KServe links the folder of a container, whose image is the model, into a shared volume."""
    cars = [one for one in pod.containers if one.name == _MODELCAR and approval.names_image(one.image)]
    return {
        str(mount.get("name"))
        for car in cars
        for mount in car.spec.get("volumeMounts") or ()
        if volume_kind(volume_of(pod, mount.get("name") or "") or {}) == "emptyDir"
        and not any(_writes(one, mount.get("name") or "") for one in pod.containers if not _is_car_or_reader(one))
    }


def _is_car_or_reader(container: Container) -> bool:
    # KServe mounts the shared volume writable into its own server too: it only follows a link.
    return container.name.startswith(_MODELCAR) or container.named_server


def _writes(container: Container, volume: str) -> bool:
    return any(
        mount.get("name") == volume and not mount.get("readOnly") for mount in container.spec.get("volumeMounts") or ()
    )
