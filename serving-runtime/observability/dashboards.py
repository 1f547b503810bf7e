"""What people look at when an alert has woken them, and before."""

from __future__ import annotations

from observability.panels import board, graph, number, row

_MODEL = 'namespace=~"$namespace",model=~"$model"'
_VERSION = "{{model}} {{version}} {{track}}"
_POD = "{{namespace}}/{{pod}}"

_SHARE = (
    f"sum by (model, track) (model:requests:rate5m{{{_MODEL}}})"
    f" / on (model) group_left () sum by (model) (model:requests:rate5m{{{_MODEL}}})"
)


def _microseconds(stage: str) -> str:
    """The mean time that a request spends in one of Triton's stages."""
    return (
        f"sum by (model, version) (rate(nv_inference_{stage}_duration_us{{{_MODEL}}}[5m]))"
        f" / sum by (model, version) (rate(nv_inference_request_success{{{_MODEL}}}[5m]))"
    )


_SERVING = (
    board(
        "Model serving",
        "tidewaiter-model-serving",
        "Whether models answer, how fast, and what holds them up. The line of the objective is what alerts go by.",
        "namespace",
        "model",
        of="nv_inference_request_success",
    )
    .with_row(row("Now"))
    .with_panel(
        number("Requests", "Answered and failed, a second.", "reqps", f"sum(model:requests:rate5m{{{_MODEL}}})")
    )
    .with_panel(
        number(
            "Failed",
            "Of all requests.",
            "percentunit",
            f"sum(rate(nv_inference_request_failure{{{_MODEL}}}[5m])) / sum(model:requests:rate5m{{{_MODEL}}})",
        )
    )
    .with_panel(
        number("Slowest p99", "Of all versions.", "s", f"max(model:request_duration_seconds:p99_5m{{{_MODEL}}})")
    )
    .with_panel(number("Waiting", "In Triton's queues.", "short", f"sum(model:pending_requests:sum{{{_MODEL}}})"))
    .with_panel(
        number(
            "Busiest GPU",
            "Five minutes' average; above 85 % and slow is what wakes somebody.",
            "percentunit",
            'max(pod:gpu_utilization:ratio_avg5m{namespace=~"$namespace"})',
        )
    )
    .with_panel(
        number(
            "Oldest model",
            "Of those that serve.",
            "s",
            f"max(tidewaiter_model_age_seconds{{{_MODEL}}})",
        )
    )
    .with_row(row("Requests"))
    .with_panel(graph("Requests a second", "By version.", "reqps", (f"model:requests:rate5m{{{_MODEL}}}", _VERSION)))
    .with_panel(
        graph(
            "Failed",
            "Triton's own failures; what the gate turns away is on the dashboard of data.",
            "percentunit",
            (f"model:request_errors:ratio_rate5m{{{_MODEL}}}", _VERSION),
        )
    )
    .with_panel(
        graph(
            "Time of a request",
            "From the gate's histogram, so that requests that the response cache answers count too.",
            "s",
            (f"model:request_duration_seconds:p50_5m{{{_MODEL}}}", f"p50 {_VERSION}"),
            (f"model:request_duration_seconds:p95_5m{{{_MODEL}}}", f"p95 {_VERSION}"),
            (f"model:request_duration_seconds:p99_5m{{{_MODEL}}}", f"p99 {_VERSION}"),
            ("tidewaiter:latency_objective_seconds", "objective of p99"),
        )
    )
    .with_panel(
        graph(
            "Where the time goes",
            "Mean of each stage in Triton. Queue: more pods or larger batches. Compute: the model itself.",
            "µs",
            *(
                (
                    _microseconds(stage),
                    f"{stage} {{{{model}}}} {{{{version}}}}",
                )
                for stage in ("queue", "compute_input", "compute_infer", "compute_output")
            ),
        )
    )
    .with_row(row("What holds requests up"))
    .with_panel(graph("Queue", "Requests that wait.", "short", (f"model:pending_requests:sum{{{_MODEL}}}", _VERSION)))
    .with_panel(
        graph(
            "Batch size",
            "Inputs in one execution: near 1 under load means that dynamic batching does nothing.",
            "short",
            (f"model:batch_size:avg_5m{{{_MODEL}}}", _VERSION),
        )
    )
    .with_panel(
        graph(
            "Response cache",
            "Hits of all look-ups.",
            "percentunit",
            (f"model:cache_hits:ratio_rate5m{{{_MODEL}}}", _VERSION),
        )
    )
    .with_panel(
        graph(
            "Pods",
            "Wanted by the autoscaler, and the most that it may have.",
            "short",
            (
                'kube_horizontalpodautoscaler_status_desired_replicas{namespace=~"$namespace"}',
                "wanted {{horizontalpodautoscaler}}",
            ),
            (
                'kube_horizontalpodautoscaler_spec_max_replicas{namespace=~"$namespace"}',
                "at most {{horizontalpodautoscaler}}",
            ),
        )
    )
    .with_row(row("GPUs"))
    .with_panel(
        graph(
            "Use",
            "DCGM's where its exporter runs, else Triton's own.",
            "percentunit",
            ('pod:gpu_utilization:ratio_avg5m{namespace=~"$namespace"}', _POD),
        )
    )
    .with_panel(
        graph(
            "Memory",
            "Used of all.",
            "percentunit",
            ('pod:gpu_memory_used:ratio{namespace=~"$namespace"}', _POD),
        )
    )
)

_DATA = (
    board(
        "Model data",
        "tidewaiter-model-data",
        "Whether models still see what they were approved with, and whether anybody looks.",
        "namespace",
        "model",
        of="nv_inference_request_success",
    )
    .with_row(row("Drift"))
    .with_panel(
        graph(
            "PSI by feature",
            "Against the profile of the registration. Below 0.1 nothing, above 0.2 the distribution has changed, "
            "if there are samples enough.",
            "short",
            (f"tidewaiter_feature_drift_psi{{{_MODEL}}}", "{{model}} {{version}} {{feature}}"),
        )
    )
    .with_panel(
        graph(
            "KS by feature",
            "The largest distance of the two distributions.",
            "short",
            (f"tidewaiter_feature_drift_ks{{{_MODEL}}}", "{{model}} {{version}} {{feature}}"),
        )
    )
    .with_panel(
        graph(
            "Samples",
            "What the numbers above rest on.",
            "short",
            (f"tidewaiter_drift_samples{{{_MODEL}}}", "{{model}} {{version}}"),
            (f"tidewaiter_drift_samples_needed{{{_MODEL}}}", "needed {{model}} {{version}}"),
        )
    )
    .with_panel(graph("Age", "Since the model was made.", "s", (f"tidewaiter_model_age_seconds{{{_MODEL}}}", _VERSION)))
    .with_panel(
        graph(
            "PSI of the predictions",
            "Drifting alone, with inputs as they were: the model or what feeds it is broken.",
            "short",
            (f"tidewaiter_prediction_drift_psi{{{_MODEL}}}", "{{model}} {{version}}"),
        )
    )
    .with_panel(
        graph(
            "Accuracy",
            "Of the last thousand predictions whose label came.",
            "percentunit",
            (f"tidewaiter_accuracy{{{_MODEL}}}", "{{model}} {{version}}"),
        )
    )
    .with_row(row("Gate"))
    .with_panel(
        graph(
            "Verdicts",
            "What the gate made of requests, a second.",
            "reqps",
            (
                f"sum by (model, verdict) (rate(tidewaiter_requests_total{{{_MODEL}}}[5m]))",
                "{{model}} {{verdict}}",
            ),
            width=24,
        )
    )
)

_ROLLOUT = (
    board(
        "Model rollout",
        "tidewaiter-model-rollout",
        "A candidate beside the version that it is to replace, in the same minutes.",
        "namespace",
        "model",
        of="nv_inference_request_success",
    )
    .with_row(row("Candidate and stable"))
    .with_panel(
        graph(
            "Share of requests",
            "What the split really sends.",
            "percentunit",
            (
                _SHARE,
                "{{model}} {{track}}",
            ),
        )
    )
    .with_panel(
        graph("Failed", "By version.", "percentunit", (f"model:request_errors:ratio_rate5m{{{_MODEL}}}", _VERSION))
    )
    .with_panel(
        graph("p99", "By version.", "s", (f"model:request_duration_seconds:p99_5m{{{_MODEL}}}", _VERSION), width=24)
    )
)

DASHBOARDS = (_SERVING, _DATA, _ROLLOUT)
"""Every dashboard; the file of each is named after its uid."""
