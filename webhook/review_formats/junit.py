"""JUnit XML, for CI: a test case per judged object, failed where it would be refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from admission.finding import Action
from webhook.offline_review import Reviewed

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(reviews: Sequence[Reviewed], problems: Sequence[str]) -> str:
    """One suite per file."""
    root = Element("testsuites", name="tidewaiter review")
    suites: dict[str, Element] = {}
    for reviewed in reviews:
        suite = suites.get(reviewed.manifest.source)
        if suite is None:
            suite = suites[reviewed.manifest.source] = SubElement(
                root, "testsuite", name=_xml(reviewed.manifest.source)
            )
        _case(suite, reviewed)
    for problem in problems:
        suite = SubElement(root, "testsuite", name="problems")
        case = SubElement(suite, "testcase", classname="tidewaiter", name="read")
        SubElement(case, "error", message=_xml(problem))
        suites[problem] = suite
    for suite in suites.values():
        _count(suite)
    _count(root)
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _case(suite: Element, reviewed: Reviewed) -> None:
    manifest = reviewed.manifest
    name = _xml(f"{manifest.kind} {reviewed.namespace}/{manifest.name}")
    case = SubElement(suite, "testcase", classname=_xml(manifest.source), name=name, line=str(manifest.line()))
    if reviewed.problem:
        SubElement(case, "error", message=_xml(reviewed.problem))
        return
    if reviewed.skipped or reviewed.decision is None or reviewed.decision.ignored:
        reason = reviewed.skipped or (reviewed.decision.ignored if reviewed.decision else "")
        SubElement(case, "skipped", message=_xml(reason))
        return
    texts = {
        action: [_xml(one.finding.text()) for one in reviewed.decision.findings if one.action is action]
        for action in Action
    }
    if reviewed.refused:
        failure = SubElement(case, "failure", message=texts[Action.DENY][0], type="refused")
        failure.text = "\n".join(texts[Action.DENY])
    if texts[Action.WARN]:
        SubElement(case, "system-out").text = "\n".join(texts[Action.WARN])


def _count(suite: Element) -> None:
    cases = list(suite.iter("testcase"))
    suite.set("tests", str(len(cases)))
    for attribute, element in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        if suite.tag == "testsuites" and attribute == "skipped":
            continue  # JUnit has the sum of skipped cases on suites only
        suite.set(attribute, str(sum(case.find(element) is not None for case in cases)))


def _xml(text: str) -> str:
    return _NOT_XML.sub("?", text)
