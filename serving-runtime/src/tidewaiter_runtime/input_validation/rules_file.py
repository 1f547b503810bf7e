"""Reads a rules file; docs/input-validation.md describes it."""

from __future__ import annotations

import re
from pathlib import Path

import re2  # type: ignore[import-untyped]  # google-re2 ships no types

from tidewaiter_runtime.input_validation.located_yaml import Section, parse, read_file
from tidewaiter_runtime.input_validation.rules import (
    SIZES,
    CallerRule,
    Extent,
    InputRule,
    ModelRule,
    Pattern,
    RateRule,
    Rules,
    TextRule,
)

_EXTENT = re.compile(r"(-1|\d{1,9})(?:-(\d{1,9}))?")
_MODEL = re.compile(r"[A-Za-z0-9_.-]{1,255}")
_LARGEST_BODY = 1 << 30
_PATTERN_MEMORY = 8 << 20


def read_rules(path: Path) -> Rules:
    """The rules of a file.

    Raises:
        BadInput: with every problem, each with file and line.
    """
    return read_file(path, _rules)


def parse_rules(text: str, name: str = "rules.yaml") -> Rules:
    """The rules of a text."""
    return parse(text, name, _rules)


def _rules(top: Section) -> Rules:
    models = {}
    section = top.section("models")
    for name, model in section.sections():
        if not _MODEL.fullmatch(name):
            section.problem(name, "a model's name has letters, digits, '_', '.' and '-'; rename the model")
        models[name] = _model(name, model)
    if not models:
        top.problem("models", "names no model; every request would be refused")
    return Rules(models, _rate(top.section("rate")), _caller(top.section("caller")))


def _rate(section: Section) -> RateRule:
    rule = RateRule(
        section.number("perSecond", 0, 0, 1e6),
        section.number("burst", 1, 1, 1e6),
        section.whole("callers", 10_000, 1, 1_000_000),
    )
    section.done()
    return rule


def _caller(section: Section) -> CallerRule:
    source = section.choice("from", ("address", "certificate", "header", "serviceAccountToken"), "address")
    rule = CallerRule(source)
    if source == "header":
        rule = CallerRule(source, header=section.text("header").lower())
    if source == "serviceAccountToken":
        rule = CallerRule(
            source, issuer=section.text("issuer"), audience=section.text("audience"), keys=section.text("keys")
        )
    section.done()
    return rule


def _model(name: str, section: Section) -> ModelRule:
    inputs = {}
    declared = section.section("inputs")
    for key, one in declared.sections():
        inputs[key] = _input(key, one)
    if not inputs:
        section.problem("inputs", "names no input; name every input of the model")
    versions = section.texts("versions")
    if any(not one.isascii() or not one.isdigit() for one in versions):
        section.problem("versions", "a version is a number, as '3'")
    watch = section.section("watch")
    rule = ModelRule(
        name,
        inputs,
        frozenset(versions),
        section.whole("bodyBytes", 4 << 20, 1, _LARGEST_BODY),
        watch.number("share", 0, 0, 1),
        watch.text("prediction", ""),
    )
    watch.done()
    section.done()
    return rule


def _input(name: str, section: Section) -> InputRule:
    datatype = section.choice("datatype", tuple(SIZES), None)
    shape = tuple(_extent(one, section) for one in section.texts("shape"))
    if "shape" not in section:
        section.problem("shape", "is missing; write the whole shape that callers send, with the batch")
    bounds = section.numbers("range")
    if bounds and (len(bounds) != 2 or bounds[0] > bounds[1]):
        section.problem("range", "expected [least, most]")
        bounds = ()
    if bounds and datatype in ("BYTES", "BF16"):
        section.problem("range", f"{datatype} has none; leave it out")
    features = section.texts("features")
    if features and (datatype == "BYTES" or (shape and shape[-1].most != len(features))):
        section.problem("features", f"found {len(features)} names; the last dimension must be a number of that length")
    text = section.section("text")
    if "text" in section and datatype != "BYTES":
        section.problem("text", f"is for BYTES; {name} is {datatype}")
    rule = InputRule(
        name,
        datatype,
        shape,
        bounds[0] if bounds else None,
        bounds[1] if bounds else None,
        _text(text) if "text" in section else None,
        section.flag("optional"),
        features,
    )
    text.done()
    section.done()
    return rule


def _extent(text: str, section: Section) -> Extent:
    found = _EXTENT.fullmatch(text)
    if not found or (found[1] == "-1" and found[2]) or (found[2] and int(found[2]) < int(found[1])):
        section.problem("shape", f"found {text[:20]!r}; a dimension is 4, 1-64 or -1 for any")
        return Extent(0, -1)
    if found[1] == "-1":
        return Extent(0, -1)
    return Extent(int(found[1]), int(found[2] or found[1]))


def _text(section: Section) -> TextRule:
    shortest = section.whole("minLength", 0, 0, 1 << 24)
    longest = section.whole("maxLength", 4096, 0, 1 << 24)
    if shortest > longest:
        section.problem("minLength", f"is more than maxLength, {longest}")
    written = section.text("pattern", "")
    pattern = _pattern(rf"\A(?:{written})\z", written, "pattern", section) if written else None
    forbidden = []
    for one in section.texts("forbidden"):
        compiled = _pattern(one, one, "forbidden", section)
        if compiled:
            forbidden.append((one, compiled))
    return TextRule(shortest, longest, pattern, written, tuple(forbidden))


def _pattern(text: str, written: str, key: str, section: Section) -> Pattern | None:
    options = re2.Options()
    options.max_mem = _PATTERN_MEMORY
    options.log_errors = False
    try:
        compiled: Pattern = re2.compile(text, options=options)
    except re2.error as error:
        why = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        section.problem(
            key, f"{written[:60]!r} is no RE2 expression: {why}; RE2 has no look-around and no back-reference"
        )
        return None
    return compiled
