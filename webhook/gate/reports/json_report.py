"""For scripts: one JSON document. The shape is stable; ``version`` grows when it is not.

The digests of the evidence tell later which files an approval rested on.
"""

from __future__ import annotations

import json

from webhook.gate.outcome import Outcome

_VERSION = 1


def json_report(outcome: Outcome) -> str:
    """Every threshold and every file."""
    document = {
        "version": _VERSION,
        "model": outcome.model,
        "modelVersion": outcome.version,
        "environment": outcome.environment,
        "passed": outcome.passed,
        "checks": [
            {
                "id": one.id,
                "passed": one.passed,
                "message": one.message,
                "sources": list(one.sources),
                "remedy": one.remedy,
            }
            for one in outcome.checks
        ],
        "evidence": [
            {
                "file": one.source,
                "format": one.format,
                "sha256": one.sha256,
                "made": one.made.isoformat(),
                "dated": one.dated,
                "about": {
                    key: value
                    for key, value in (
                        ("model", one.found.about.model),
                        ("modelVersion", one.found.about.version),
                        ("digest", one.found.about.digest),
                        ("images", list(one.found.about.images)),
                    )
                    if value
                },
            }
            for one in outcome.evidence
        ],
        "unbound": outcome.unbound,
        "skipped": list(outcome.skipped),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
