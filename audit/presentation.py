"""Records for people and for other programs: text, JSON, CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import orjson

from audit.chain import Entry
from audit.record_columns import columns, rules
from audit.selection import Statistics
from audit.verification import Verified

_COLOURS = {"red": 31, "green": 32, "yellow": 33, "cyan": 36, "grey": 90, "bold": 1}
_VERDICTS = {
    "allowed": "green", "mutated": "cyan", "warned": "yellow", "denied": "red", "ignored": "grey", "error": "red",
}  # fmt: skip
_ACTIONS = {"deny": "red", "warn": "yellow", "audit": "grey"}
_COLUMNS = ("time", "id", "uid", "verdict", "webhook", "operation", "kind", "namespace", "name", "user", "model",
            "version", "rules", "latency_ms")  # fmt: skip
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def _clean(text: object) -> str:
    """What a request says must not move the cursor of whoever reads it."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", str(text))


def _paint(text: object, colour: str) -> str:
    return f"\x1b[{_COLOURS[colour]}m{_clean(text)}\x1b[0m"


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def list_text(entries: Iterable[Entry]) -> str:
    """A line for each record, with colours."""
    return "".join(f"{_line(entry.value)}\n" for entry in entries)


def _line(record: Mapping[str, Any]) -> str:
    verdict = str(record.get("verdict", ""))
    place = "/".join(str(record[key]) for key in ("namespace", "name") if record.get(key))
    about = [str(record.get("kind") or "?"), place or "-"]
    model = columns(dict(record))[3]
    if model:
        about.append(f"model {model}")
    about.append(f"by {record.get('user') or '-'}")
    named = ", ".join(sorted(rules(dict(record)))) or str(record.get("error") or record.get("ignored") or "")
    parts = [
        _paint(record.get("time", ""), "grey"),
        _paint(f"{verdict:<7}", _VERDICTS.get(verdict, "bold")),
        _clean(" ".join(about)),
        *([_clean(named)] if named else []),
        _paint(record.get("id") or record.get("uid") or "", "grey"),
    ]
    return "  ".join(parts)


def list_json(entries: Iterable[Entry]) -> str:
    """A JSON array of the records."""
    return "[" + ",\n".join(entry.line.decode("utf-8", "replace") for entry in entries) + "]\n"


def list_csv(entries: Iterable[Entry]) -> str:
    """A table; what a spreadsheet would take for a formula is quoted by an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for entry in entries:
        record = entry.value
        about = {
            **record,
            "model": columns(record)[3],
            "version": _dict(record.get("model")).get("version", ""),
            "rules": " ".join(sorted(rules(record))),
        }
        writer.writerow([_cell(about.get(name, "")) for name in _COLUMNS])
    return out.getvalue()


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def show_text(entry: Entry) -> str:
    """Everything that one record says."""
    return "\n".join(_shown(entry.value)) + "\n"


def _shown(record: Mapping[str, Any]) -> Iterator[str]:
    verdict = str(record.get("verdict", ""))
    place = "/".join(str(record[key]) for key in ("namespace", "name") if record.get(key))
    yield f"{_paint(verdict, _VERDICTS.get(verdict, 'bold'))}  {_clean(record.get('kind') or '')} {_clean(place)}"
    for label, value in (
        ("time", record.get("time")),
        ("record", record.get("id")),
        ("uid", record.get("uid")),
        ("asked", f"{record.get('webhook', '')} {record.get('operation', '')}".strip()),
        ("user", record.get("user")),
        ("groups", ", ".join(str(one) for one in _list(record.get("groups")))),
        ("environment", record.get("environment")),
        ("workload", " ".join(str(record[key]) for key in ("recognised", "workload") if record.get(key))),
        ("model", _model(_dict(record.get("model")))),
        ("approval", _approval(_dict(record.get("approval")))),
        ("ignored", record.get("ignored")),
        ("error", record.get("error")),
        ("policies", record.get("policy_revision")),
        ("settings", record.get("settings_revision")),
        ("latency", f"{record['latency_ms']} ms" if "latency_ms" in record else None),
    ):
        if value:
            yield f"  {label:<12} {_clean(value)}"
    yield from _signatures(record)
    yield from _findings(record)
    yield from _injections(record)
    yield from _patch(record)
    if record.get("governance"):
        yield _paint("what was asked for", "bold")
        for line in json.dumps(record["governance"], indent=2, ensure_ascii=False).splitlines():
            yield f"  {_clean(line)}"


def _model(model: Mapping[str, Any]) -> str:
    version = f":{model['version']}" if model.get("version") else ""
    return " ".join(
        [f"{model.get('name', '')}{version}", *(str(model[key]) for key in ("uri", "digest") if model.get(key))]
    )


def _approval(approval: Mapping[str, Any]) -> str:
    if not approval:
        return ""
    by = ", ".join(str(one) for one in _list(approval.get("approvers")))
    said = f"{approval.get('state')}{f' by {by}' if by else ''}"
    return f"{said}, says registry {approval.get('registry') or '(none)'} ({approval.get('freshness')})"


def _signatures(record: Mapping[str, Any]) -> Iterator[str]:
    signatures = [_dict(one) for one in _list(record.get("signatures"))]
    if signatures:
        yield _paint("images that must be signed", "bold")
    for one in signatures:
        state = str(one.get("state", ""))
        key = f" by {one['key']}" if one.get("key") else ""
        age = f", {one['age_seconds']} s old" if "age_seconds" in one else ""
        said = _paint(state, {"signed": "green", "unsigned": "red"}.get(state, "yellow"))
        yield f"  {said}{_clean(key)}  {_clean(one.get('image', ''))} ({_clean(one.get('freshness'))}{_clean(age)})"
        if one.get("reason"):
            yield f"      {_clean(one['reason'])}"


def _findings(record: Mapping[str, Any]) -> Iterator[str]:
    findings = [_dict(one) for one in _list(record.get("findings"))]
    if findings:
        yield _paint("findings", "bold")
    for one in findings:
        action = str(one.get("action", ""))
        where = f" {one['path']}" if one.get("path") else ""
        container = f" ({one['container']})" if one.get("container") else ""
        said = _paint(action, _ACTIONS.get(action, "bold"))
        yield f"  {said}  {_clean(one.get('rule', ''))}{_clean(where + container)}"
        yield f"      {_clean(one.get('message', ''))}"
        if one.get("remedy"):
            yield f"      remedy: {_clean(one['remedy'])}"
        if one.get("exception"):
            yield f"      exception: {_clean(one['exception'])}"
        if one.get("deny_after"):
            yield f"      denies after {_clean(one['deny_after'])}"


def _injections(record: Mapping[str, Any]) -> Iterator[str]:
    injections = [_dict(one) for one in _list(record.get("injections"))]
    if injections:
        yield _paint("injected", "bold")
    for one in injections:
        preview = " (preview: not done)" if one.get("preview") else ""
        yield f"  {_clean(one.get('mutator', ''))}{preview}"
        for change in _list(one.get("changes")):
            yield f"      {_clean(change)}"


def _patch(record: Mapping[str, Any]) -> Iterator[str]:
    operations = [_dict(one) for one in _list(record.get("patch"))]
    if operations:
        yield _paint("patch", "bold")
    for one in operations:
        kind = str(one.get("op"))
        sign, colour = {"add": ("+", "green"), "remove": ("-", "red"), "replace": ("~", "yellow")}.get(
            kind, ("?", "bold")
        )
        yield "  " + _paint(f"{sign} {one.get('path')}", colour)
        if "value" in one:
            for line in json.dumps(one["value"], indent=2, ensure_ascii=False).splitlines():
                yield "  " + _paint(f"{sign}   {line}", colour)


def stats_text(statistics: Statistics) -> str:
    """Counts, most first."""
    if not statistics.total:
        return "0 records\n"
    lines = [f"{statistics.total} records from {_clean(statistics.first)} to {_clean(statistics.last)}"]
    for name, counts in statistics.counts.items():
        if counts:
            lines.append(_paint(f"by {name}", "bold"))
            lines += [f"  {number:>9}  {_clean(key)}" for key, number in counts.items()]
    return "\n".join(lines) + "\n"


def stats_json(statistics: Statistics) -> str:
    """The same as a JSON object."""
    about = {"total": statistics.total, "first": statistics.first, "last": statistics.last, **statistics.counts}
    return orjson.dumps(about, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def stats_csv(statistics: Statistics) -> str:
    """The same as a table."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("by", "value", "records"))
    for name, counts in statistics.counts.items():
        writer.writerows((name, _cell(key), number) for key, number in counts.items())
    return out.getvalue()


def verified_text(verified: Verified) -> str:
    """What was found, the first bad record of each chain, and what nothing proves."""
    lines = [_paint(_clean(problem), "red") for problem in verified.all_problems]
    for chain in verified.chains:
        tail = chain.last - chain.covered
        said = [f"{chain.records} records"]
        if chain.removed_by_retention:
            said.append(f"{chain.removed_by_retention} removed by retention")
        if chain.covered:
            said.append(f"checkpoint at {chain.covered}")
        if tail > 0:
            said.append(f"{tail} at the end without a checkpoint")
        said.append("ended" if chain.closed else "not ended: whether more were written cannot be told")
        lines.append(f"{_clean(chain.replica)}: {', '.join(said)}")
    state = _paint("not intact", "red") if verified.all_problems else _paint("intact", "green")
    signed = f"{verified.signatures} signatures checked" if verified.signatures else "no signature checked"
    lines.append(f"{state}: {verified.records} records in {len(verified.chains)} chains, {signed}")
    return "\n".join(lines) + "\n"


def verified_json(verified: Verified) -> str:
    """The same as a JSON object."""
    about = {
        "intact": not verified.all_problems,
        "problems": verified.all_problems,
        "records": verified.records,
        "signatures": verified.signatures,
        "chains": verified.chains,
    }
    return orjson.dumps(about, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


LISTS: dict[str, Callable[[Iterable[Entry]], str]] = {"text": list_text, "json": list_json, "csv": list_csv}
STATISTICS: dict[str, Callable[[Statistics], str]] = {"text": stats_text, "json": stats_json, "csv": stats_csv}
VERIFIED: dict[str, Callable[[Verified], str]] = {"text": verified_text, "json": verified_json}
