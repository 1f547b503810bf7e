"""Data files, read as OPA reads them."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from admission.validator import PolicyError

_INT = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"
_BOOL = "tag:yaml.org,2002:bool"
_READ_OTHERWISE = (_INT, _FLOAT, _BOOL, "tag:yaml.org,2002:timestamp")


class _Loader(yaml.SafeLoader):
    """PyYAML takes ``-2e3`` for a text, ``1:30`` for ninety, ``no`` for false and a date for a date; OPA does not."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # as in its parent
        first: [(tag, pattern) for tag, pattern in patterns if tag not in _READ_OTHERWISE]
        for first, patterns in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_DIGITS = list("-+0123456789")
_Loader.add_implicit_resolver(_INT, re.compile(r"^[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$"), _DIGITS)
_Loader.add_implicit_resolver(
    _FLOAT, re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"), [*_DIGITS, "."]
)


def read_data(path: str, text: str) -> Any:
    """What stands in a JSON or YAML file; raises ``PolicyError`` with its line."""
    try:
        if path.endswith(".json"):
            return json.loads(text)
        # Keys become texts, as in JSON.
        return json.loads(json.dumps(yaml.load(text, _Loader) or {}, allow_nan=False))  # noqa: S506  # a safe loader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark is not None else path
        raise PolicyError(f"{where}: the data cannot be read: {getattr(error, 'problem', error)}") from None
    except json.JSONDecodeError as error:
        raise PolicyError(f"{path}:{error.lineno}:{error.colno}: the data cannot be read: {error.msg}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise PolicyError(f"{path}: the data cannot be written as JSON: {error}") from None
