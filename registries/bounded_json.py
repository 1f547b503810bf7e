"""JSON from a registry: of bounded size and depth, and of the shape that was expected."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from registries.registry import RegistryError

M = TypeVar("M", bound=BaseModel)
MAX_DEPTH = 32


def read_json(registry: str, body: bytes, model: type[M]) -> M:
    """One document as ``model``; raises ``RegistryError``, which repeats nothing of it."""
    try:
        data: Any = orjson.loads(body)
        if _too_deep(data):
            raise RegistryError(f"registry {registry} answers with JSON that is nested too deeply", "garbage")
        return model.model_validate(data)
    except orjson.JSONDecodeError as error:
        raise RegistryError(f"registry {registry} answers with what is not JSON", "garbage") from error
    except ValidationError as error:
        # Names of fields are the model's own where they are known, and the registry's where they are not.
        unknown = any(one["type"] == "extra_forbidden" for one in error.errors(include_input=False, include_url=False))
        where = "an unknown field" if unknown else ".".join(_own(error, model)) or "the document"
        raise RegistryError(f"registry {registry} answers in another form than expected: {where}", "garbage") from error


def _own(error: ValidationError, model: type[BaseModel]) -> list[str]:
    first = error.errors(include_input=False, include_url=False)[0]["loc"][:1]
    names = {field.alias or name for name, field in model.model_fields.items()} | set(model.model_fields)
    return [str(one) for one in first if one in names]


def _too_deep(data: object) -> bool:
    """Whether lists and objects are nested more deeply than allowed. (orjson itself stops at 1,024.)"""
    level = [data]
    for _ in range(MAX_DEPTH):
        level = [one for outer in level for one in _inner(outer)]
        if not level:
            return False
    return True


def _inner(data: object) -> Iterable[object]:
    if isinstance(data, dict):
        return data.values()
    return data if isinstance(data, list) else ()
