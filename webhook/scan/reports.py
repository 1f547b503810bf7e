"""A scan for people, for programs, and as PolicyReport objects."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import click
import yaml

from admission.finding import Action
from webhook.governance.connection_options import plain
from webhook.scan.standing import Scan, Standing

_COLOURS = {Action.DENY: "red", Action.WARN: "yellow", Action.AUDIT: "cyan"}
_RESULTS = {Action.DENY: "fail", Action.WARN: "warn", Action.AUDIT: "warn"}
_SEVERITIES = {Action.DENY: "high", Action.WARN: "medium", Action.AUDIT: "low"}
_POLICY_REPORT = "wgpolicyk8s.io/v1alpha2", "PolicyReport"
_OPEN_REPORT = "openreports.io/v1alpha1", "Report"
_SOURCE = "tidewaiter"
_AT_MOST = 500
"""Results in one report: etcd takes 1.5 MiB, and nobody reads more."""
_LONGEST = 1000


def text(scan: Scan) -> str:
    """Revoked and expired first, then by workload; whoever prints it strips colours where none are wanted."""
    lines: list[str] = []
    lapsed = [one for one in scan.found if one.lapsed]
    others = [one for one in scan.found if not one.lapsed]
    if lapsed:
        lines += [click.style("Revoked or expired, and running:", bold=True), *_by_place(lapsed), ""]
    if others:
        lines += [click.style("Found:", bold=True), *_by_place(others), ""]
    denied, warned = scan.places_with(Action.DENY), scan.places_with(Action.WARN)
    lines.append(
        f"{scan.objects:,} objects seen, {len(scan.places):,} model workloads: "
        f"{denied:,} would be refused today, {warned:,} have warnings"
    )
    return "\n".join(lines) + "\n"


def _by_place(standings: list[Standing]) -> Iterator[str]:
    for place, of_place in groupby(standings, lambda one: one.place):
        kept = list(of_place)
        model = f"  {plain(kept[0].model)}" if kept[0].model else ""
        where = "/".join(part for part in (place.namespace, place.name) if part)
        yield f"  {click.style(f'{plain(place.kind)} {plain(where)}', bold=True)}{click.style(model, dim=True)}"
        for one in kept:
            finding = one.judged.finding
            action = click.style(f"{one.judged.action.value:<5}", fg=_COLOURS.get(one.judged.action))
            container = f" ({plain(finding.container)})" if finding.container else ""
            pods = f"  {len(one.pods)} pods" if len(one.pods) > 1 else "  1 pod" if one.pods else ""
            yield f"    {action} {finding.rule}  {plain(finding.path)}{container}{click.style(pods, dim=True)}"
            yield f"          {plain(finding.message)}"
            yield f"          -> {plain(finding.remedy)}"


def as_json(scan: Scan) -> str:
    """One object with ``findings``, ``summary`` and ``problems``."""
    return json.dumps(
        {
            "summary": {
                "objects": scan.objects,
                "workloads": len(scan.places),
                "wouldBeRefused": scan.places_with(Action.DENY),
                "withWarnings": scan.places_with(Action.WARN),
            },
            "findings": [_plain_finding(one) for one in scan.found],
            "problems": scan.problems,
        },
        indent=2,
    ) + "\n"  # fmt: skip


def _plain_finding(one: Standing) -> dict[str, Any]:
    finding = one.judged.finding
    return {
        "namespace": one.place.namespace,
        "kind": one.place.kind,
        "name": one.place.name,
        "model": one.model,
        "rule": finding.rule,
        "action": one.judged.action.value,
        "path": finding.path,
        "container": finding.container,
        "message": finding.message,
        "remedy": finding.remedy,
        "lapsed": one.lapsed,
        "pods": one.pods,
    }


def policy_reports(scan: Scan) -> str:
    """A ``wgpolicyk8s.io`` PolicyReport for each namespace."""
    return _reports(scan, *_POLICY_REPORT)


def open_reports(scan: Scan) -> str:
    """An ``openreports.io`` Report for each namespace."""
    return _reports(scan, *_OPEN_REPORT)


def _reports(scan: Scan, api_version: str, kind: str) -> str:
    now = int(datetime.now(UTC).timestamp())
    ordered = sorted(scan.found, key=lambda one: one.place.namespace)
    documents = [
        _report(namespace, list(found), api_version, kind, now)
        for namespace, found in groupby(ordered, lambda one: one.place.namespace)
        if namespace
    ]
    for clean in sorted(
        {place.namespace for place in scan.places} - {one["metadata"]["namespace"] for one in documents}
    ):
        documents.append(_report(clean, [], api_version, kind, now))
    return yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True)


def _report(namespace: str, found: list[Standing], api_version: str, kind: str, now: int) -> dict[str, Any]:
    results = [_result(one, now) for one in found]
    kept = results[:_AT_MOST]
    if len(results) > len(kept):
        left = str(len(results) - len(kept))
        kept[-1]["properties"]["leftOut"] = left
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": _SOURCE,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": _SOURCE},
        },
        "results": kept,
        "summary": {
            "pass": 0,
            "fail": sum(one["result"] == "fail" for one in results),
            "warn": sum(one["result"] == "warn" for one in results),
            "error": 0,
            "skip": 0,
        },
    }


def _result(one: Standing, now: int) -> dict[str, Any]:
    finding = one.judged.finding
    where = f"{finding.path} ({finding.container})" if finding.container else finding.path
    properties = {"remedy": finding.remedy[:_LONGEST], "pods": str(len(one.pods))}
    if one.model:
        properties["model"] = one.model
    if one.lapsed:
        properties["lapsed"] = "true"
    resource = {"kind": one.place.kind, "namespace": one.place.namespace, "name": one.place.name}
    return {
        "source": _SOURCE,
        "policy": finding.rule,
        "rule": finding.rule,
        "category": "Model workloads",
        "severity": "critical" if one.lapsed else _SEVERITIES[one.judged.action],
        "result": _RESULTS[one.judged.action],
        "scored": True,
        "timestamp": {"seconds": now, "nanos": 0},
        "resources": [resource],
        "message": f"{where}: {finding.message}"[:_LONGEST],
        "properties": properties,
    }


FORMATS: dict[str, Callable[[Scan], str]] = {
    "text": text,
    "json": as_json,
    "policyreport": policy_reports,
    "openreport": open_reports,
}
