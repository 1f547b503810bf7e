"""The registries ``s3``, ``gs``, ``https`` and ``folder``: one manifest per model version."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from admission.approval import Approval, NotFound
from registries.bounded_json import read_json
from registries.manifest import Manifest
from registries.object_store import Missing, ObjectStore, Unchanged
from registries.places import manifest_path
from registries.registry import RegistryError


@dataclass(frozen=True, slots=True)
class _Held:
    approval: Approval
    tag: str
    version: str


class ObjectRegistry:
    """Approvals of manifests. What is held of ``entries`` manifests makes the next question a conditional one."""

    def __init__(self, name: str, store: ObjectStore, entries: int = 10_000) -> None:
        self._name = name
        self._store = store
        self._entries = entries
        self._held: OrderedDict[tuple[str, str], _Held] = OrderedDict()

    @property
    def name(self) -> str:
        """The registry's name in the settings."""
        return self._name

    async def fetch(self, model: str, version: str) -> Approval | NotFound:
        """What the manifest says; raises ``RegistryError``."""
        path = manifest_path(model, version)
        if path is None:
            return NotFound()
        key = (model, version)
        held = self._held.get(key)
        found = await self._store.get(path, held.tag if held is not None else "")
        if isinstance(found, Unchanged) and held is not None:
            return held.approval
        self._held.pop(key, None)
        if isinstance(found, Missing | Unchanged):
            return NotFound()
        manifest = read_json(self._name, found.body, Manifest)
        if (manifest.model, manifest.version) != key:
            raise RegistryError(f"registry {self._name}: the manifest is of another model or version", "garbage")
        self._held[key] = _Held(manifest.approval(), found.tag, found.version)
        while len(self._held) > self._entries:
            self._held.popitem(last=False)
        return self._held[key].approval

    def revision(self, model: str, version: str) -> str:
        """The store's version of the manifest, else its entity tag."""
        held = self._held.get((model, version))
        return (held.version or held.tag) if held is not None else ""

    async def close(self) -> None:
        """Let connections go."""
        await self._store.close()
