"""Evidence held to thresholds. Pure: the time is passed in.

Missing evidence fails. Where several files speak of the same thing, all of them must pass: a
better number elsewhere does not undo a worse one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from webhook.gate.binding import Bound, Wanted, bindings
from webhook.gate.check import Check
from webhook.gate.evidence import Evidence, Measurement, Validation, Vulnerability
from webhook.gate.formats.model_card import section_name
from webhook.gate.thresholds import Bounds, Gate, Latency, ModelCard, Vulnerabilities

_SKEW = timedelta(minutes=5)
_NAMED = 5


def judge(gate: Gate, evidence: Sequence[Evidence], now: datetime, wanted: Wanted | None = None) -> list[Check]:
    """Every threshold of ``gate`` in the order in which it is documented.

    With ``wanted``, what is judged, evidence that is about something else fails too.
    """
    checks = [
        *_metrics("metrics", gate.metrics, evidence),
        *_metrics("bias", gate.bias, evidence),
        *(_latency(gate.latency, evidence) if gate.latency else ()),
        *(_vulnerabilities(gate.vulnerabilities, evidence, now) if gate.vulnerabilities else ()),
    ]
    if gate.data_validation:
        found = {one.source: one.found.data_validation for one in evidence if one.found.data_validation}
        checks.append(_validated("data-validation", found, "Great Expectations or TensorFlow Data Validation"))
    if gate.model_validation:
        found = {one.source: one.found.model_validation for one in evidence if one.found.model_validation}
        checks.append(_validated("model-validation", found, "TFX Evaluator"))
    if gate.model_card:
        checks += _card(gate.model_card, evidence)
    used = {source for one in checks for source in one.sources}
    if wanted is not None:
        files = [Bound(one.source, one.sha256, one.found.about) for one in evidence]
        checks += bindings(files, used, wanted, required=gate.bound)
    if gate.max_age is not None:
        aged = [one for one in evidence if one.source in used and one.found.card is None]
        checks += [_age(one, gate.max_age, now) for one in aged]
    return checks


def _metrics(group: str, wanted: Mapping[str, Bounds], evidence: Sequence[Evidence]) -> Iterator[Check]:
    for name, bounds in wanted.items():
        identifier = f"{group}.{name}"
        found = {one.source: one.found.metrics[name] for one in evidence if name in one.found.metrics}
        if not found:
            known = sorted({metric for one in evidence for metric in one.found.metrics})
            yield Check(
                identifier,
                False,
                f"expected {bounds.text}, found no metric {name!r} among {_some(known) or 'the evidence'}",
                remedy="add the evaluation's results (MLflow run, metrics.json), or use the metric's name there",
            )
            continue
        worst = {source: value for source, value in found.items() if not bounds.hold(value)}
        shown = ", ".join(f"{_value(value)} ({source})" for source, value in (worst or found).items())
        remedy = "evaluate a better version, or have the threshold changed by those who own it" if worst else ""
        yield Check(identifier, not worst, f"expected {bounds.text}, found {shown}", tuple(found), remedy)


def _value(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else "no number"


def _latency(wanted: Latency, evidence: Sequence[Evidence]) -> Iterator[Check]:
    rows = [(one.source, row) for one in evidence for row in one.found.measurements or ()]
    at = "" if wanted.concurrency is None else f" at concurrency {wanted.concurrency}"
    if wanted.concurrency is not None:
        rows = [(source, row) for source, row in rows if row.concurrency == wanted.concurrency]
    for name, limit in (("p95", wanted.p95), ("p99", wanted.p99)):
        if limit is not None:
            yield _percentile(name, limit, at, rows)


def _percentile(name: str, limit: float, at: str, rows: Sequence[tuple[str, Measurement]]) -> Check:
    identifier = f"latency.{name}"
    expected = f"expected at most {limit:g} ms{at}"
    measured = [(source, row, row.percentiles[name]) for source, row in rows if name in row.percentiles]
    sources = tuple(dict.fromkeys(source for source, _, _ in measured))
    if not measured or len(measured) < len(rows):
        return Check(
            identifier,
            False,
            f"{expected}, found {'no measurement' if not rows else f'measurements without {name}'}",
            tuple(dict.fromkeys(source for source, _ in rows)),
            "add what perf_analyzer -f wrote for this model",
        )
    source, row, slowest = max(measured, key=lambda one: one[2])
    passed = math.isfinite(slowest) and slowest <= limit and all(math.isfinite(one[2]) for one in measured)
    remedy = "" if passed else "lower the load that one replica takes, or make the model faster"
    return Check(identifier, passed, f"{expected}, found {slowest:g} ms at {row.load} ({source})", sources, remedy)


def _vulnerabilities(wanted: Vulnerabilities, evidence: Sequence[Evidence], now: datetime) -> Iterator[Check]:
    scans = [one for one in evidence if one.found.vulnerabilities is not None]
    sources = tuple(one.source for one in scans)
    accepted = {one.id for one in wanted.accepted if one.until is None or now.date() <= one.until}
    counted = _counted(scans, accepted, fixed_only=wanted.ignore_unfixed)
    for severity, allowed in wanted.allowed.items():
        identifier = f"vulnerabilities.{severity}"
        if not scans:
            message = f"expected at most {allowed}, found no scan that lists packages"
            yield Check(identifier, False, message, remedy="add a report of Trivy (--scanners vuln) or Grype, as JSON")
            continue
        found = [one for one in counted if one.severity == severity]
        named = _some([f"{one.id} in {one.package} {one.installed}{_mended(one)}" for one in found])
        passed = len(found) <= allowed
        remedy = "" if passed else "update these packages, or accept a vulnerability with a reason until a date"
        shown = f"{len(found)}: {named}" if found else "none"
        yield Check(identifier, passed, f"expected at most {allowed}, found {shown}", sources, remedy)


def _counted(scans: Sequence[Evidence], accepted: set[str], *, fixed_only: bool) -> list[Vulnerability]:
    """Each vulnerability of each package once, however many scans and layers have it."""
    distinct: dict[tuple[str, str, str, str], Vulnerability] = {}
    for scan in scans:
        for one in scan.found.vulnerabilities or ():
            if one.id not in accepted and (one.fixed or not fixed_only):
                distinct.setdefault((one.id, one.severity, one.package, one.installed), one)
    return list(distinct.values())


def _mended(one: Vulnerability) -> str:
    return f" (fixed in {one.fixed})" if one.fixed else ""


def _validated(identifier: str, found: Mapping[str, Validation], tools: str) -> Check:
    if not found:
        return Check(
            identifier, False, "expected a validation that passed, found none", remedy=f"add the result of {tools}"
        )
    failed = {source: one for source, one in found.items() if not one.passed}
    if not failed:
        names = ", ".join(f"{one.name} ({source})" for source, one in found.items())
        return Check(identifier, True, f"passed: {names}", tuple(found))
    problems = _some(
        [f"{problem} ({source})" for source, one in failed.items() for problem in one.problems or ("failed",)]
    )
    remedy = "mend the data or the model, or the expectation if that is wrong; then validate again"
    return Check(identifier, False, f"expected a validation that passed, found {problems}", tuple(found), remedy)


def _card(wanted: ModelCard, evidence: Sequence[Evidence]) -> Iterator[Check]:
    cards = [(one.source, one.found.card) for one in evidence if one.found.card is not None]
    sources = tuple(source for source, _ in cards)
    asked = (("sections", wanted.sections), ("metadata", wanted.metadata))
    for name, keys in asked:
        if not keys:
            continue
        identifier = f"model-card.{name}"
        if not cards:
            message = f"expected {', '.join(keys)}, found no model card"
            yield Check(identifier, False, message, remedy="add the model's README.md with its YAML front matter")
            continue
        missing = [
            f"{key!r} ({source})"
            for source, card in cards
            for key in keys
            if not (card.sections.get(section_name(key)) if name == "sections" else card.metadata.get(key))
        ]
        what = "a section with text" if name == "sections" else "a value in the front matter"
        message = (
            f"expected {what} for {', '.join(keys)}, found {'all' if not missing else 'none for ' + _some(missing)}"
        )
        yield Check(identifier, not missing, message, sources, f"write {what} for each" if missing else "")


def _age(evidence: Evidence, limit: timedelta, now: datetime) -> Check:
    identifier = f"evidence-age.{evidence.source}"
    age = now - evidence.made
    by = "" if evidence.dated else ", by the file's modification time"
    made = f"{evidence.made:%Y-%m-%d %H:%M} UTC{by}"
    if age < -_SKEW:
        message = f"expected an age of at most {_span(limit)}, found a time in the future: {made}"
        return Check(identifier, False, message, (evidence.source,), "set the clock of the machine that made it")
    passed = age <= limit
    message = f"expected an age of at most {_span(limit)}, found {_span(max(age, timedelta()))}: made {made}"
    return Check(identifier, passed, message, (evidence.source,), "" if passed else "make this evidence again")


def _span(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    if hours < 1:
        return "less than an hour"
    return f"{hours / 24:.3g} days" if hours >= 48 else f"{hours:.3g} hours"


def _some(texts: Sequence[str]) -> str:
    more = len(texts) - _NAMED
    return ", ".join(texts[:_NAMED]) + (f" and {more} more" if more > 0 else "")
