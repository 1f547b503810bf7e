"""Where the files at a path of a container come from, and who vouches for them."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from admission.approval import CLAIM_SCHEME, Approval
from admission.context import ReviewContext
from admission.kserve_storage import (
    KSERVE_PATH,
    KSERVE_VOLUME,
    MODELCAR,
    kserve_initializer,
    kserve_source,
    kserve_will_bring,
)
from admission.pod import Container, ModelPod
from admission.preload_alterations import alterations_of, wanted_here
from admission.preloading import (
    OUR_CONTAINERS,
    named_as_ours,
    volume_kind,
    volume_of,
)


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


class ModelVolumes:
    """The volumes of one pod under one approval.

    What many containers ask about is worked out once, and only when one asks.
    """

    def __init__(self, pod: ModelPod, approval: Approval, context: ReviewContext) -> None:
        self._pod = pod
        self._approval = approval
        self._context = context
        self._mounts: dict[str, dict[str, Mapping[str, Any]]] = {}

    def origin(self, container: Container, path: str) -> Origin:
        """Where ``path`` in ``container`` comes from: the innermost mount that covers it."""
        mounts = self._mounts_of(container)
        wanted = mounted = _whole(path.removeprefix("file://"))
        while mounted not in mounts:
            above = posixpath.dirname(mounted)
            if above == mounted:
                return self._to_come(wanted)
            mounted = above
        mount = mounts[mounted]
        name = mount.get("name")
        volume = self._by_name.get(name or "") or {"name": name, "unknown volume": {}}
        if mount.get("subPathExpr"):
            return Origin(volume)
        relative = wanted[len(mounted) :].lstrip("/")
        return Origin(volume, posixpath.normpath(posixpath.join("/", mount.get("subPath") or "", relative)))

    def _to_come(self, path: str) -> Origin:
        """What no mount covers is the image's, or KServe's webhook will mount it in a pod that is not made yet."""
        if not kserve_will_bring(self._pod) or not f"{path}/".startswith(f"{KSERVE_PATH}/"):
            return Origin(None)
        return Origin({"name": KSERVE_VOLUME, "emptyDir": {}}, path.removeprefix(KSERVE_PATH) or "/")

    def is_approved(self, container: Container, found: Origin) -> bool:
        """Whether what lies there is the approved model, by what is known at admission."""
        if found.volume is None:
            return self._approval.names_image(container.image)
        if found.volume.get("name") in self._filled:
            return True
        image, claim = found.volume.get("image"), found.volume.get("persistentVolumeClaim")
        if isinstance(image, Mapping):
            return self._approval.names_image(str(image.get("reference") or ""))
        if not isinstance(claim, Mapping):
            return False
        return _names_claim(self._approval, str(claim.get("claimName") or ""), found.inside)

    @cached_property
    def _filled(self) -> frozenset[str]:
        return _filled(self._pod, self._context, self._approval)

    @cached_property
    def _by_name(self) -> dict[str, Mapping[str, Any]]:
        """The first counts where two have one name, as everywhere."""
        return {one.get("name") or "": one for one in reversed(self._pod.spec.get("volumes") or ())}

    def _mounts_of(self, container: Container) -> dict[str, Mapping[str, Any]]:
        """The container's mounts by their whole path; of two at one path the first counts."""
        mounts = self._mounts.get(container.path)
        if mounts is None:
            mounts = self._mounts[container.path] = {}
            for mount in container.spec.get("volumeMounts") or ():
                mounts.setdefault(_whole(mount.get("mountPath") or "/"), mount)
        return mounts


def _whole(path: str) -> str:
    """The path from the root; ``normpath`` leaves two slashes in front, and Linux takes them for one."""
    return posixpath.normpath(f"/{path.lstrip('/')}")


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
    if kserve_will_bring(pod):
        same = kserve_source(pod).rstrip("/") == approval.source.rstrip("/")
        return {KSERVE_VOLUME} if same else set()
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
    cars = [one for one in pod.containers if one.name == MODELCAR and approval.names_image(one.image)]
    return {
        str(mount.get("name"))
        for car in cars
        for mount in car.spec.get("volumeMounts") or ()
        if volume_kind(volume_of(pod, mount.get("name") or "") or {}) == "emptyDir"
        and not any(_writes(one, mount.get("name") or "") for one in pod.containers if not _is_car_or_reader(one))
    }


def _is_car_or_reader(container: Container) -> bool:
    # KServe mounts the shared volume writable into its own server too: it only follows a link.
    return container.name.startswith(MODELCAR) or container.named_server


def _writes(container: Container, volume: str) -> bool:
    return any(
        mount.get("name") == volume and not mount.get("readOnly") for mount in container.spec.get("volumeMounts") or ()
    )
