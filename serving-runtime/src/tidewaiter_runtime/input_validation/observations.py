"""What the gate tells the exporter: a datagram for each inference, which is lost rather than waited for."""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import Any

import orjson

from tidewaiter_runtime.input_validation.rules import ModelRule
from tidewaiter_runtime.input_validation.tensors import numbers
from tidewaiter_runtime.input_validation.v2_http import InferenceRequest

_MOST_ROWS = 16
"""Rows of one batch that are sampled; a datagram has some 200 KB at most."""


class Observations:
    """Sends to a Unix datagram socket. Nobody there, or a full buffer: the observation is dropped and counted."""

    def __init__(self, path: Path | None) -> None:
        self._path = str(path) if path else ""
        self._dropped = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) if path else None
        self._random = random.Random()  # noqa: S311  # which requests are sampled is no secret

    def chosen(self, rule: ModelRule) -> bool:
        """Whether this request is one of those whose features and prediction are watched."""
        return self._socket is not None and rule.sample > 0 and self._random.random() < rule.sample

    def send(self, observation: dict[str, Any]) -> None:
        """Send one observation, or drop it."""
        if self._socket is None:
            return
        if self._dropped:
            observation["dropped"] = self._dropped
        try:
            self._socket.sendto(orjson.dumps(observation, option=orjson.OPT_SERIALIZE_NUMPY), self._path)
            self._dropped = 0
        except OSError:
            self._dropped += 1

    def close(self) -> None:
        """End."""
        if self._socket is not None:
            self._socket.close()


def features(request: InferenceRequest, rule: ModelRule) -> dict[str, list[float]]:
    """The values of the declared columns, at most 16 of each."""
    found: dict[str, list[float]] = {}
    for tensor in request.tensors:
        columns = rule.inputs[tensor.name].features
        if columns:
            rows = numbers(tensor).reshape(-1, len(columns))[:_MOST_ROWS]
            found.update((name, rows[:, number].tolist()) for number, name in enumerate(columns))
    return found
