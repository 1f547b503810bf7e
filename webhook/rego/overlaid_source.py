"""Policies with a team's own data over that which comes with them."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from admission.validator import PolicyError
from webhook.rego.data_file import read_data
from webhook.rego.policy_set import PolicySet
from webhook.rego.sources import PolicySource


class OverlaidSource:
    """``source`` with the data of a file over its own: mappings are merged, anything else is replaced."""

    def __init__(self, source: PolicySource, data_file: Path) -> None:
        self.name = f"{source.name} with data of {data_file}"
        self._source = source
        self._file = data_file

    def stamp(self) -> Hashable:
        """Differs after a change of either."""
        try:
            about = self._file.stat()
            own: Hashable = (about.st_mtime_ns, about.st_size, about.st_ino)
        except OSError as error:
            own = error.errno
        return self._source.stamp(), own

    def read(self) -> PolicySet:
        """The policies with both."""
        policies = self._source.read()
        try:
            text = self._file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise PolicyError(f"data file {self._file} cannot be read: {reason} (settings: policies.data)") from None
        data = read_data(self._file.name, text) or {}
        if not isinstance(data, Mapping):
            raise PolicyError(
                f"{self._file.name}: data must be a mapping, for example settings: {{image_registry: ...}}"
            )
        revision = hashlib.sha256(f"{policies.revision}\n{text}".encode()).hexdigest()[:12]
        return replace(policies, source=self.name, data=overlaid(policies.data, data), revision=revision)


def overlaid(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """``own`` over ``base``: mappings are merged, anything else is replaced."""
    merged = dict(base)
    for key, value in own.items():
        before = merged.get(key)
        merged[key] = overlaid(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return merged
