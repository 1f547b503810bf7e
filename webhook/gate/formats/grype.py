"""Grype's JSON report (``-o json``). What its own configuration ignores is not in ``matches``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from webhook.gate.binding import About, image_digests
from webhook.gate.evidence import Format, Found, Vulnerability
from webhook.gate.times import moment


def _recognises(document: Any) -> bool:
    return isinstance(document, dict) and isinstance(document.get("matches"), list) and "descriptor" in document


def _read(document: Mapping[str, Any]) -> Found:
    found = tuple(_vulnerability(one) for one in document["matches"])
    target = (document.get("source") or {}).get("target") or {}
    # Of a folder it is a text: its path.
    named = target if isinstance(target, dict) else {}
    digests = (*(named.get("repoDigests") or ()), named.get("manifestDigest"), named.get("imageID"))
    about = About(images=image_digests(named.get("userInput"), *digests))
    return Found(made=moment(document["descriptor"].get("timestamp")), vulnerabilities=found, about=about)


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
