"""JUnit XML, for CI: a test case for each threshold."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from webhook.gate.outcome import Outcome

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(outcome: Outcome) -> str:
    """One suite."""
    counts = {"tests": str(len(outcome.checks)), "failures": str(len(outcome.failed)), "errors": "0"}
    root = Element("testsuites", {"name": "tidewaiter gate", **counts})
    suite = SubElement(
        root, "testsuite", {"name": _xml(f"{outcome.name} for {outcome.environment}"), "skipped": "0", **counts}
    )
    for check in outcome.checks:
        case = SubElement(
            suite, "testcase", classname=_xml(f"{outcome.environment}.{outcome.model}"), name=_xml(check.id)
        )
        if check.passed:
            SubElement(case, "system-out").text = _xml(check.message)
        else:
            failure = SubElement(case, "failure", message=_xml(check.message), type="threshold")
            failure.text = _xml("\n".join([check.message, check.remedy, *check.sources]))
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _xml(text: str) -> str:
    return _NOT_XML.sub("?", text)
