"""Grype's JSON report (``-o json``). What its own configuration ignores is not in ``matches``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from webhook.gate.evidence import Format, Found, Vulnerability
from webhook.gate.times import moment


def _recognises(document: Any) -> bool:
    return isinstance(document, dict) and isinstance(document.get("matches"), list) and "descriptor" in document


def _read(document: Mapping[str, Any]) -> Found:
    found = tuple(_vulnerability(one) for one in document["matches"])
    return Found(made=moment(document["descriptor"].get("timestamp")), vulnerabilities=found)


def _vulnerability(match: Mapping[str, Any]) -> Vulnerability:
    vulnerability, artifact = match["vulnerability"], match["artifact"]
    fix = vulnerability.get("fix") or {}
    return Vulnerability(
        id=str(vulnerability["id"]),
        severity=str(vulnerability.get("severity") or "unknown").lower(),
        package=str(artifact["name"]),
        installed=str(artifact.get("version") or ""),
        fixed=", ".join(str(one) for one in fix.get("versions") or ()) if fix.get("state") == "fixed" else "",
    )


REPORT = Format("Grype report", _recognises, _read)
