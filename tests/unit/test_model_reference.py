from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from admission.model_reference import model_reference
from admission.pod import ModelPod

CASES = yaml.safe_load(Path(__file__).with_name("model_references.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_pod_will_load(case: Mapping[str, Any]) -> None:
    obj = case.get("pod") or {"spec": {"containers": case["containers"]}}
    found = model_reference(ModelPod(obj))
    for field, expected in case["expect"].items():
        if field == "loads":
            assert [[load.source, load.version, load.path] for load in found.loads] == expected
        elif field == "unknown":
            assert len(found.loads) == len(expected)
            for load, part in zip(found.loads, expected, strict=True):
                assert part in load.unknown
                assert bool(part) == bool(load.unknown)
        else:
            assert getattr(found, field) == expected, field
