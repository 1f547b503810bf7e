"""Required node affinity: what an author's terms ask of a node, and how they are narrowed.

``nodeSelectorTerms`` are ORed, and requirements of one term ANDed: a new requirement goes
into *every* term, since a term of its own would widen the choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from admission.pod import child

_HOST_NAME = "kubernetes.io/hostname"

Alternative = Mapping[str, tuple[str, ...]]
"""Labels and the values that each may have; a node fits that has one of them for every label."""
_Term = dict[str, Any]


def may_lead_to(spec: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a node with these labels fits selector and affinity, as far as labels say.

    A node's host name is not among them, and operators that are not known here fit. An empty
    term matches no node.
    """
    selector = spec.get("nodeSelector") or {}
    terms = _terms(spec)
    return all(key == _HOST_NAME or labels.get(key) == value for key, value in selector.items()) and (
        not terms or any(not _empty(term) and _fits(term, labels) for term in terms)
    )


def contradicts(spec: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether the node selector asks for another value of one of these labels."""
    selector = spec.get("nodeSelector") or {}
    return any(labels.get(key, value) != value for key, value in selector.items())


def require_one_of(spec: dict[str, Any], alternatives: Sequence[Alternative]) -> bool:
    """Put the alternatives into every term; False where selector and terms lead nowhere else already."""
    selector = {key: {value} for key, value in (spec.get("nodeSelector") or {}).items()}
    alternatives = _merged(alternatives)
    if _implies(selector, alternatives):
        return False
    terms = _terms(spec)
    result: list[_Term] = [] if terms else [{"matchExpressions": _requirements(one)} for one in alternatives]
    for term in terms:
        # An empty term matches no node: filling it would widen the choice.
        if _empty(term) or _implies(_demanded(term, selector), alternatives):
            result.append(term)
        else:
            result.extend(_joined(term, _requirements(one)) for one in alternatives)
    if result == terms:
        return False
    node_affinity = child(child(spec, "affinity"), "nodeAffinity")
    child(node_affinity, "requiredDuringSchedulingIgnoredDuringExecution")["nodeSelectorTerms"] = result
    return True


def _terms(spec: Mapping[str, Any]) -> list[_Term]:
    node_affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    return required.get("nodeSelectorTerms") or []


def _fits(term: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    for requirement in term.get("matchExpressions") or ():
        key, operator = requirement.get("key"), requirement.get("operator")
        values, value = requirement.get("values") or (), labels.get(key or "")
        if key == _HOST_NAME:
            continue
        if operator == "In" and value not in values:
            return False
        if operator == "NotIn" and value in values:
            return False
        if operator == "Exists" and value is None:
            return False
        if operator == "DoesNotExist" and value is not None:
            return False
    return True


def _merged(alternatives: Sequence[Alternative]) -> list[Alternative]:
    """One alternative with several values, where all are told apart by the same single label."""
    labels = {key for one in alternatives for key in one}
    if len(labels) == 1:
        key = labels.pop()
        return [{key: tuple(sorted({value for one in alternatives for value in one[key]}))}]
    return list(alternatives)


def _requirements(alternative: Alternative) -> list[dict[str, Any]]:
    return [{"key": key, "operator": "In", "values": list(values)} for key, values in sorted(alternative.items())]


def _joined(term: Mapping[str, Any], requirements: list[dict[str, Any]]) -> _Term:
    return {**term, "matchExpressions": [*(term.get("matchExpressions") or ()), *requirements]}


def _empty(term: Mapping[str, Any]) -> bool:
    return not term.get("matchExpressions") and not term.get("matchFields")


def _demanded(term: Mapping[str, Any], selector: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The values that a node may have, by label, where term and selector limit them."""
    demanded = dict(selector)
    for requirement in term.get("matchExpressions") or ():
        if requirement.get("operator") == "In":
            key, values = requirement.get("key") or "", set(requirement.get("values") or ())
            demanded[key] = values & demanded.get(key, values)
    return demanded


def _implies(demanded: Mapping[str, set[str]], alternatives: Sequence[Alternative]) -> bool:
    """Whether only nodes of an alternative are left (or none at all)."""
    if not all(demanded.values()):
        return True
    return any(
        all(key in demanded and demanded[key] <= set(values) for key, values in one.items()) for one in alternatives
    )
