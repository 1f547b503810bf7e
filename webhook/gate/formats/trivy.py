"""Trivy's JSON report (``--format json``), schema version 2.

A report counts as a scan for vulnerabilities only where it lists packages: a scan for secrets
alone, or of an operating system that Trivy does not know, says nothing about them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from webhook.gate.binding import About, image_digests
from webhook.gate.evidence import Format, Found, Vulnerability
from webhook.gate.times import moment

_PACKAGES = ("os-pkgs", "lang-pkgs")


def _recognises(document: Any) -> bool:
    return isinstance(document, dict) and "SchemaVersion" in document and "ArtifactName" in document


def _read(document: Mapping[str, Any]) -> Found:
    if document["SchemaVersion"] != 2:
        raise ValueError(f"SchemaVersion: found {document['SchemaVersion']!r}; expected 2")
    made = moment(document.get("CreatedAt"))
    results = document.get("Results") or []
    if not any(one.get("Class") in _PACKAGES or "Vulnerabilities" in one for one in results):
        return Found(made=made)
    metadata = document.get("Metadata") or {}
    named = (document["ArtifactName"], metadata.get("Reference"), *(metadata.get("RepoDigests") or ()))
    about = About(images=image_digests(*named, metadata.get("ImageID")))
    found = [_vulnerability(entry) for one in results for entry in one.get("Vulnerabilities") or []]
    return Found(made=made, vulnerabilities=tuple(found), about=about)


def _vulnerability(entry: Mapping[str, Any]) -> Vulnerability:
    return Vulnerability(
        id=str(entry["VulnerabilityID"]),
        severity=str(entry.get("Severity") or "unknown").lower(),
        package=str(entry["PkgName"]),
        installed=str(entry.get("InstalledVersion") or ""),
        fixed=str(entry.get("FixedVersion") or ""),
    )


REPORT = Format("Trivy report", _recognises, _read)
