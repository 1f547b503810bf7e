"""The dashboard of the service itself."""

from __future__ import annotations

import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

_SERVING = Path(__file__).parents[2] / "serving-runtime"
if str(_SERVING) not in sys.path:
    sys.path.insert(0, str(_SERVING))

from observability.panels import board, graph, number, row  # noqa: E402  # where it is was said just now

_OURS = 'name=~".+[.]tidewaiter[.]dev"'
_SECONDS = "sum by (webhook, le) (rate(tidewaiter_review_seconds_bucket[5m]))"


def dashboard_json() -> str:
    """The file that the chart has."""
    made = (
        board("Tidewaiter", "tidewaiter", "Whether pods are looked at, how fast, and what comes of it.")
        .with_row(row("Now"))
        .with_panel(number("Reviews", "A second.", "reqps", "sum(rate(tidewaiter_reviews_total[5m]))", 6))
        .with_panel(
            number(
                "Passed unseen",
                "In an hour, as the API server counts.",
                "short",
                f"sum(increase(apiserver_admission_webhook_fail_open_count{{{_OURS}}}[1h]))",
                6,
            )
        )
        .with_panel(
            number("Lost records", "In a day.", "short", "sum(increase(tidewaiter_records_dropped_total[1d]))", 6)
        )
        .with_panel(number("Exceptions", "That hold now.", "short", "max(tidewaiter_exceptions)", 6))
        .with_row(row("Reviews"))
        .with_panel(
            graph(
                "Verdicts",
                "By webhook.",
                "reqps",
                ("sum by (webhook, verdict) (rate(tidewaiter_reviews_total[5m]))", "{{webhook}} {{verdict}}"),
            )
        )
        .with_panel(
            graph(
                "Time of a review",
                "In the service; the budget of p99 is 5 ms.",
                "s",
                (f"histogram_quantile(0.5, {_SECONDS})", "p50 {{webhook}}"),
                (f"histogram_quantile(0.99, {_SECONDS})", "p99 {{webhook}}"),
            )
        )
        .with_panel(
            graph(
                "Findings",
                "By rule and what was done about them.",
                "short",
                ("sum by (rule, action) (increase(tidewaiter_findings_total[1h]))", "{{rule}} {{action}}"),
            )
        )
        .with_panel(
            graph(
                "Changed pods",
                "By mutator.",
                "short",
                ("sum by (mutator) (increase(tidewaiter_injections_total[1h]))", "{{mutator}}"),
            )
        )
        .with_row(row("What it rests on"))
        .with_panel(
            graph(
                "Questions to registries",
                "stale: what was said earlier is used; unavailable: versions are refused for it.",
                "reqps",
                (
                    "sum by (registry, result) (rate(tidewaiter_registry_questions_total[5m]))",
                    "{{registry}} {{result}}",
                ),
            )
        )
        .with_panel(
            graph(
                "Errors",
                "Reviews and rules that went wrong.",
                "short",
                ("sum by (webhook, cause) (increase(tidewaiter_errors_total[10m]))", "{{webhook}} {{cause}}"),
                ("sum by (rule, cause) (increase(tidewaiter_policy_failures_total[10m]))", "{{rule}} {{cause}}"),
            )
        )
    )
    return JSONEncoder(sort_keys=True, indent=2).encode(made.build()) + "\n"
