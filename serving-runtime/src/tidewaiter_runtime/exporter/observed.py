"""What the gate told: counts, latencies, samples of features and predictions, all bounded."""

from __future__ import annotations

import bisect
import math
import random
import threading
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidewaiter_runtime.drift.profile import Profile
from tidewaiter_runtime.drift.window import Window

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper edges of the latency histogram, in seconds."""
_MOST_MODELS = 256
_MOST_FEATURES = 512
_JUDGED = 1000

Version = tuple[str, str]


@dataclass(slots=True)
class Latencies:
    """A histogram: counts by bucket, the last without an end."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect.bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds


@dataclass(slots=True)
class Accuracy:
    """Predictions whose label came: how many there were, how many were right, and the last 1000 of them."""

    labelled: int = 0
    correct: int = 0
    absolute_error: float = 0.0
    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=_JUDGED))

    def add(self, prediction: float, label: float) -> None:
        """A prediction is right where it is less than 0.5 from its label: a class, or a probability of 0 or 1."""
        right = abs(prediction - label) < 0.5
        self.labelled += 1
        self.correct += right
        self.absolute_error += abs(prediction - label)
        self.recent.append(right)


class Observed:
    """Thread-safe. Of too many models or features, the further ones are counted as dropped."""

    def __init__(
        self, profiles: Mapping[Version, Profile], *, samples: int, window_s: float, predictions: int, seed: int = 0
    ) -> None:
        self.lock = threading.Lock()
        self.profiles = profiles
        self.requests: dict[tuple[str, str, str, str], int] = {}
        self.latencies: dict[tuple[str, str, str], Latencies] = {}
        self.windows: dict[tuple[str, str, str], Window] = {}
        self.predicted: dict[Version, Window] = {}
        self.accuracy: dict[Version, Accuracy] = {}
        self.unmatched = 0
        self.dropped = 0
        self.unreadable = 0
        self._samples = samples
        self._window_s = window_s
        self._waiting: OrderedDict[str, tuple[Version, float]] = OrderedDict()
        self._most_waiting = predictions
        self._random = random.Random(seed)  # noqa: S311  # which values are kept is no secret

    def add(self, observation: Mapping[str, Any], now: float) -> None:
        """Take one observation of the gate into account."""
        with self.lock:
            try:
                self._add(observation, now)
            except (LookupError, TypeError, ValueError, AttributeError):
                self.unreadable += 1

    def label(self, identifier: str, value: float) -> bool:
        """Take one label; whether its prediction is known."""
        with self.lock:
            found = self._waiting.pop(identifier, None)
            if found is None:
                self.unmatched += 1
                return False
            version, prediction = found
            self.accuracy.setdefault(version, Accuracy()).add(prediction, value)
            return True

    def _add(self, observation: Mapping[str, Any], now: float) -> None:
        self.dropped += int(observation.get("dropped", 0))
        model, version = str(observation["model"]), str(observation["version"])
        protocol, verdict = str(observation["protocol"]), str(observation["verdict"])
        key = (model, version, protocol, verdict)
        if key not in self.requests and len(self.requests) >= _MOST_MODELS:
            self.dropped += 1
            return
        seconds = float(observation["seconds"])
        self.requests[key] = self.requests.get(key, 0) + 1
        if verdict == "accepted":
            self.latencies.setdefault((model, version, protocol), Latencies()).add(seconds)
        prediction = [float(one) for one in observation.get("prediction", ())]
        if prediction:
            self._sampled(model, version, observation, prediction, now)

    def _sampled(
        self, model: str, version: str, observation: Mapping[str, Any], prediction: Sequence[float], now: float
    ) -> None:
        for name, values in observation.get("features", {}).items():
            window = self._window((model, version, str(name)))
            for value in values:
                if window is not None and math.isfinite(float(value)):
                    window.add(float(value), now)
        predicted = self.predicted.setdefault((model, version), Window(self._samples, self._window_s, self._random))
        identifier = str(observation.get("id", ""))[:256]
        for number, value in enumerate(prediction):
            if math.isfinite(value):
                predicted.add(value, now)
            if identifier:
                self._wait_for_label(
                    identifier if len(prediction) == 1 else f"{identifier}:{number}", model, version, value
                )

    def _wait_for_label(self, identifier: str, model: str, version: str, value: float) -> None:
        self._waiting[identifier] = ((model, version), value)
        self._waiting.move_to_end(identifier)
        if len(self._waiting) > self._most_waiting:
            self._waiting.popitem(last=False)

    def _window(self, key: tuple[str, str, str]) -> Window | None:
        found = self.windows.get(key)
        if found is None:
            if len(self.windows) >= _MOST_FEATURES:
                self.dropped += 1
                return None
            found = self.windows[key] = Window(self._samples, self._window_s, self._random)
        return found
