"""The same rules as Gatekeeper ConstraintTemplates and constraints.

Gatekeeper hands over the object; a small library, the same in every template, makes our
input of it. What only Tidewaiter knows (environment, workload class, model, framework)
is empty there, and a rule that reads it says nothing.
"""

from __future__ import annotations

import json
import re
from typing import Any

from admission.validator import PolicyError
from webhook.rego.policy_set import PolicyModule, PolicySet

_TEMPLATE_API = "templates.gatekeeper.sh/v1"
_CONSTRAINT_API = "constraints.gatekeeper.sh/v1beta1"
_ACTIONS = {"deny": "deny", "warn": "warn", "audit": "dryrun"}

_DATA_PATH = r"(?P<path>(?!\.(?:lib|tidewaiter)\b)(?:\.[A-Za-z_]\w*)+)"

_INPUT_LIBRARY = """package lib.tidewaiter_input

review := input.review

object_ := input.review.object

kinds := ["initContainers", "containers", "ephemeralContainers"]

document := {
	"operation": object.get(review, "operation", ""),
	"namespace": object.get(review, "namespace", ""),
	"environment": "",
	"workload": "",
	"username": object.get(object.get(review, "userInfo", {}), "username", ""),
	"groups": object.get(object.get(review, "userInfo", {}), "groups", []),
	"labels": object.get(object.get(object_, "metadata", {}), "labels", {}),
	"annotations": object.get(object.get(object_, "metadata", {}), "annotations", {}),
	"containers": containers,
	"spec": object.union(spec_fields, {"volumes": volumes}),
	"model": {"name": "", "version": "", "uri": ""},
}

spec_fields := {key: object_.spec[key] |
	some key in ["hostNetwork", "hostPID", "hostIPC", "serviceAccountName", "runtimeClassName", "nodeName"]
	object_.spec[key]
}

volumes := [{"name": volume.name, "hostPath": volume.hostPath, "index": index} |
	some index, volume in object_.spec.volumes
	volume.hostPath
]

containers := [seen |
	some kind in kinds
	some index, container in object_.spec[kind]
	fields := {key: container[key] | some key in ["name", "image", "resources", "ports"]; container[key]}
	privilege := {"privileged": true | container.securityContext.privileged}
	place := {"kind": kind, "path": sprintf("spec.%s[%d]", [kind, index])}
	seen := object.union(object.union(fields, privilege), place)
]
"""

_ENTRY = """package tidewaiter_gatekeeper

import data.lib.RULE
import data.lib.tidewaiter_input

violation contains {"msg": message, "details": finding} if {
	some finding in RULE.findings with input as tidewaiter_input.document
	message := sprintf("%s%s: %s; %s", [finding.path, place(finding), finding.message, remedy(finding)])
}

place(finding) := sprintf(" (%s)", [finding.container]) if {
	object.get(finding, "container", "") != ""
} else := ""

remedy(finding) := object.get(finding, "remedy", REMEDY)
"""


def template(policies: PolicySet, module: PolicyModule) -> dict[str, Any]:
    """One rule as a ConstraintTemplate; raises ``PolicyError`` where it cannot be one."""
    rule = module.rule
    assert rule is not None  # noqa: S101  # the caller takes modules of rules
    name = module.package.replace(".", "_")
    libraries = [_INPUT_LIBRARY, _with_data(module, _as_library(module, name), policies.data)]
    libraries += [_with_data(one, one.text, policies.data) for one in policies.modules if one.rule is None]
    remedy = _literal(rule.remedy or "see the rule's description")
    return {
        "apiVersion": _TEMPLATE_API,
        "kind": "ConstraintTemplate",
        "metadata": {
            "name": _kind(rule.id).lower(),
            "annotations": {"metadata.gatekeeper.sh/title": rule.title, "description": rule.description},
        },
        "spec": {
            "crd": {"spec": {"names": {"kind": _kind(rule.id)}}},
            "targets": [
                {
                    "target": "admission.k8s.gatekeeper.sh",
                    "code": [
                        {
                            "engine": "Rego",
                            "source": {
                                "version": "v1",
                                "rego": _ENTRY.replace("RULE", name).replace("REMEDY", remedy),
                                "libs": libraries,
                            },
                        }
                    ],
                }
            ],
        },
    }


def constraint(module: PolicyModule, action: str = "warn") -> dict[str, Any]:
    """The constraint that puts a template in force for pods."""
    rule = module.rule
    assert rule is not None  # noqa: S101  # the caller takes modules of rules
    return {
        "apiVersion": _CONSTRAINT_API,
        "kind": _kind(rule.id),
        "metadata": {"name": rule.id},
        "spec": {
            "enforcementAction": _ACTIONS[action],
            "match": {"kinds": [{"apiGroups": [""], "kinds": ["Pod"]}]},
        },
    }


def _kind(rule: str) -> str:
    return "Tidewaiter" + "".join(part.capitalize() for part in rule.split("-"))


def _as_library(module: PolicyModule, name: str) -> str:
    """The module in package ``lib.<name>``: Gatekeeper takes libraries only below ``lib``."""
    return re.sub(r"(?m)^package\s+tidewaiter\.\S+", f"package lib.{name}", module.text, count=1)


def _with_data(module: PolicyModule, text: str, data: dict[str, Any]) -> str:
    """The module with its data written into it: Gatekeeper's templates see ``data.inventory`` only."""
    if re.search(r"\bdata\[", text):
        raise PolicyError(f"{module.path}: data[...] cannot be exported; name the data, as in data.settings.words")
    constants: dict[str, str] = {}

    def imported(found: re.Match[str]) -> str:
        constants[found["alias"] or found["path"].rpartition(".")[2]] = found["path"]
        return ""

    def read(found: re.Match[str]) -> str:
        name = f"data{found['path'].replace('.', '_')}"
        constants[name] = found["path"]
        return name

    text = re.sub(rf"(?m)^import data{_DATA_PATH}(?:[ \t]+as[ \t]+(?P<alias>\w+))?[ \t]*$\n", imported, text)
    text = re.sub(rf"(?<!import )\bdata{_DATA_PATH}", read, text)
    rules = [f"{name} := {_literal(_value(data, path))}" for name, path in constants.items()]
    return "\n\n".join([text.rstrip(), *rules]) + "\n"


def _value(data: dict[str, Any], path: str) -> Any:
    value: Any = data
    for part in path.split(".")[1:]:
        value = value.get(part, {}) if isinstance(value, dict) else {}
    return value


def _literal(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
