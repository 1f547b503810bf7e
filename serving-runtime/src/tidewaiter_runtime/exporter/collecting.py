"""Puts the metrics together, anew at each scrape."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

import numpy as np
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tidewaiter_runtime.drift.profile import FeatureProfile, Profile, bin_counts
from tidewaiter_runtime.drift.statistics import ks, psi, psi_by_chance, psi_samples_needed
from tidewaiter_runtime.exporter.gpu import Gpu
from tidewaiter_runtime.exporter.observed import BUCKETS, Observed
from tidewaiter_runtime.exporter.prometheus_text import Sample, Unscraped

_MODEL = ("model", "version")
_FEATURE = (*_MODEL, "feature")


class ModelCollector(Collector):
    """``triton`` and ``gpus`` are asked at each scrape; what they cannot tell is left out, and said to be."""

    def __init__(
        self,
        observed: Observed,
        triton: Callable[[], Sequence[Sample]] | None,
        gpus: Callable[[], Sequence[Gpu]] | None,
        *,
        threshold: float = 0.2,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._observed = observed
        self._triton = triton
        self._gpus = gpus
        self._threshold = threshold
        self._clock = clock
        self._loaded: dict[tuple[str, str], float] = {}

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        yield from self._of_triton()
        yield from self._ages()
        if self._gpus is not None:
            yield from _of_gpus(self._gpus)
        with self._observed.lock:
            families = [*self._of_requests(), *self._of_drift(), *self._of_labels()]
        yield from families

    def _of_triton(self) -> Iterator[Metric]:
        if self._triton is None:
            return
        up = GaugeMetricFamily("tidewaiter_triton_up", "Whether the model server's metrics could be read.")
        depth = GaugeMetricFamily("tidewaiter_queue_depth", "Requests that wait in the model server.", labels=_MODEL)
        hits = CounterMetricFamily("tidewaiter_response_cache_hits", "Answers from the response cache.", labels=_MODEL)
        try:
            samples = self._triton()
            up.add_metric((), 1)
        except Unscraped:
            samples = ()
            up.add_metric((), 0)
        loaded = set()
        for sample in samples:
            key = sample.labels.get("model", ""), sample.labels.get("version", "")
            if sample.name == "nv_inference_pending_request_count":
                depth.add_metric(key, sample.value)
            elif sample.name.removesuffix("_total") == "nv_cache_num_hits_per_model":
                hits.add_metric(key, sample.value)
            elif sample.name.removesuffix("_total") == "nv_inference_request_success":
                loaded.add(key)
        if samples:
            now = self._clock()
            self._loaded = {key: self._loaded.get(key, now) for key in sorted(loaded)}
        yield from (up, depth, hits)

    def _ages(self) -> Iterator[Metric]:
        now = self._clock()
        age = GaugeMetricFamily(
            "tidewaiter_model_age_seconds", "Since the version was registered, as its profile says.", labels=_MODEL
        )
        for key, profile in self._observed.profiles.items():
            age.add_metric(key, now - datetime.fromisoformat(profile.registered).timestamp())
        loaded = GaugeMetricFamily(
            "tidewaiter_model_loaded_seconds", "Since this exporter first saw the version loaded.", labels=_MODEL
        )
        for key, since in self._loaded.items():
            loaded.add_metric(key, now - since)
        yield from (age, loaded)

    def _of_requests(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "tidewaiter_requests", "Requests by what became of them.", labels=(*_MODEL, "protocol", "verdict")
        )
        for key, count in self._observed.requests.items():
            requests.add_metric(key, count)
        durations = HistogramMetricFamily(
            "tidewaiter_request_duration_seconds", "As the gate saw it, cached or not.", labels=(*_MODEL, "protocol")
        )
        for labels, latencies in self._observed.latencies.items():
            sums = np.cumsum(latencies.counts).tolist()
            edges = (*(repr(edge) for edge in BUCKETS), "+Inf")
            durations.add_metric(labels, list(zip(edges, sums, strict=True)), latencies.total)
        dropped = CounterMetricFamily("tidewaiter_observations_dropped", "Observations of the gate that were lost.")
        dropped.add_metric((), self._observed.dropped)
        unreadable = CounterMetricFamily("tidewaiter_observations_unreadable", "Datagrams that were none of the gate.")
        unreadable.add_metric((), self._observed.unreadable)
        yield from (requests, durations, dropped, unreadable)

    def _of_drift(self) -> Iterator[Metric]:
        now = time.monotonic()
        features, predictions = _Drift("feature", _FEATURE), _Drift("prediction", _MODEL)
        samples = GaugeMetricFamily("tidewaiter_drift_samples", "Of the feature with the fewest.", labels=_MODEL)
        needed = GaugeMetricFamily(
            "tidewaiter_drift_samples_needed",
            f"From how many on a PSI of {self._threshold:g} is no chance (95 %).",
            labels=_MODEL,
        )
        for key, profile in self._observed.profiles.items():
            counts, least = [], [0.0]
            for feature in _features(profile):
                window = self._observed.windows.get((*key, feature.name))
                values = window.values(now) if window is not None else ()
                counts.append(len(values))
                least.append(psi_samples_needed(len(feature.counts), feature.count, self._threshold))
                features.add((*key, feature.name), feature, values)
            reference = profile.features.get(profile.prediction)
            predicted = self._observed.predicted.get(key)
            if reference is not None and predicted is not None:
                predictions.add(key, reference, predicted.values(now))
            if counts:
                samples.add_metric(key, min(counts))
                needed.add_metric(key, max(least))
        yield from (*features.families, *predictions.families, samples, needed)

    def _of_labels(self) -> Iterator[Metric]:
        labelled = CounterMetricFamily("tidewaiter_labelled", "Predictions whose label came.", labels=_MODEL)
        correct = CounterMetricFamily("tidewaiter_labelled_correct", "Those of them that were right.", labels=_MODEL)
        error = CounterMetricFamily(
            "tidewaiter_labelled_absolute_error", "Sum of the distances from prediction to label.", labels=_MODEL
        )
        recent = GaugeMetricFamily("tidewaiter_accuracy", "Of the last 1000 labelled predictions.", labels=_MODEL)
        unmatched = CounterMetricFamily("tidewaiter_labels_unmatched", "Labels whose prediction is not known.")
        unmatched.add_metric((), self._observed.unmatched)
        for key, one in self._observed.accuracy.items():
            labelled.add_metric(key, one.labelled)
            correct.add_metric(key, one.correct)
            error.add_metric(key, one.absolute_error)
            recent.add_metric(key, sum(one.recent) / len(one.recent))
        yield from (labelled, correct, error, recent, unmatched)


class _Drift:
    """The metrics of one kind of drift."""

    def __init__(self, kind: str, labels: Sequence[str]) -> None:
        name = f"tidewaiter_{kind}_drift"
        self._psi = GaugeMetricFamily(f"{name}_psi", "Population stability index against the profile.", labels=labels)
        self._chance = GaugeMetricFamily(
            f"{name}_psi_by_chance", "What PSI exceeds in 5 % of windows without drift.", labels=labels
        )
        self._ks = GaugeMetricFamily(f"{name}_ks", "Kolmogorov-Smirnov statistic.", labels=labels)
        self._p = GaugeMetricFamily(f"{name}_ks_p_value", "Its p-value.", labels=labels)

    @property
    def families(self) -> tuple[Metric, ...]:
        return self._psi, self._chance, self._ks, self._p

    def add(self, labels: Sequence[str], reference: FeatureProfile, values: Sequence[float]) -> None:
        if not values:
            return
        found = bin_counts(np.asarray(values), reference.edges)
        statistic, p_value = ks(reference.sample, values)
        chance = psi_by_chance(len(reference.counts), reference.count, len(values))
        for family, value in (
            (self._psi, psi(reference.counts, found)),
            (self._chance, chance),
            (self._ks, statistic),
            (self._p, p_value),
        ):
            if not math.isnan(value):
                family.add_metric(labels, value)


def _features(profile: Profile) -> Iterable[FeatureProfile]:
    return (one for name, one in profile.features.items() if name != profile.prediction)


def _of_gpus(gpus: Callable[[], Sequence[Gpu]]) -> Iterator[Metric]:
    labels = ("uuid", "name", "instance")
    readable = GaugeMetricFamily("tidewaiter_gpus_readable", "Whether the GPUs could be asked.")
    use = GaugeMetricFamily("tidewaiter_gpu_utilization_ratio", "From 0 to 1; not there under MIG.", labels=labels)
    used = GaugeMetricFamily("tidewaiter_gpu_memory_used_bytes", "Memory in use.", labels=labels)
    total = GaugeMetricFamily("tidewaiter_gpu_memory_total_bytes", "Memory that there is.", labels=labels)
    try:
        found = gpus()
        readable.add_metric((), 1)
    except Unscraped:
        found = ()
        readable.add_metric((), 0)
    for gpu in found:
        key = gpu.uuid, gpu.name, gpu.instance
        if gpu.utilization is not None:
            use.add_metric(key, gpu.utilization)
        used.add_metric(key, gpu.used_bytes)
        total.add_metric(key, gpu.total_bytes)
    yield from (readable, use, used, total)


def by_version(profiles: Iterable[Profile]) -> Mapping[tuple[str, str], Profile]:
    """Profiles by model and version."""
    return {(one.model, one.version): one for one in profiles}
