"""The rules and dashboards of the serving runtime, and the tools that judge them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.controlplane.binaries import locate

ROOT = Path(__file__).parents[2]
SERVING = ROOT / "serving-runtime"
OBSERVABILITY = SERVING / "observability"
CASES = Path(__file__).parent / "observability"
RULE_FILES = tuple(sorted((OBSERVABILITY / "rules").glob("*.yaml")))
_LIMIT_S = 120
_GRAFANA = {"$namespace": ".*", "$model": ".*", "$__rate_interval": "5m"}

if str(SERVING) not in sys.path:
    sys.path.insert(0, str(SERVING))


def run(tool: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool or amtool."""
    return subprocess.run(
        [str(locate(tool)), *map(str, arguments)], capture_output=True, text=True, timeout=_LIMIT_S, check=False
    )


def rules() -> list[dict[str, Any]]:
    """Every rule of every file."""
    groups = [group for file in RULE_FILES for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """The alerting rules by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def dashboard_queries() -> Iterator[tuple[str, str]]:
    """Every query of every dashboard with where it stands, Grafana's variables filled in."""
    for file in sorted((OBSERVABILITY / "grafana").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for inner in (panel, *panel.get("panels", ())):
                for target in inner.get("targets", ()):
                    query = target["expr"]
                    for variable, value in _GRAFANA.items():
                        query = query.replace(variable, value)
                    yield f"{file.stem}: {inner['title']}", query


def named_metrics(query: str) -> set[str]:
    """The metrics that a query names, those of recording rules among them."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", query)
    bare = re.sub(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    bare = re.sub(r"\{[^}]*\}", "{", bare)
    bare = re.sub(r"\[[^]]*\]", "", bare)
    words = re.findall(r"[a-zA-Z_:][\w:]*\b(?!\s*\()", bare)
    # `and`, `unless` and their like have neither of the two, and every metric has one.
    return {word for word in words if "_" in word or ":" in word}
