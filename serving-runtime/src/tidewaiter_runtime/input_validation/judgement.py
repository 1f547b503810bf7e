"""One request against the rules, whatever the protocol: the model, the version, the caller's rate, the inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tidewaiter_runtime.input_validation.access_log import Access, AccessLog
from tidewaiter_runtime.input_validation.callers import Callers, Unknown
from tidewaiter_runtime.input_validation.observations import Observations, features
from tidewaiter_runtime.input_validation.rate_limit import RateLimit
from tidewaiter_runtime.input_validation.rules import ModelRule, Rules
from tidewaiter_runtime.input_validation.tensors import Rejected, check_request
from tidewaiter_runtime.input_validation.v2_http import InferenceRequest


class Refused(Exception):  # noqa: N818  # an outcome for the caller
    """The request goes no further. ``verdict`` is for the log, the text for the caller."""

    def __init__(self, verdict: str, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.verdict = verdict
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Asked:
    """What is known before the body is read."""

    headers: Mapping[str, str]
    certificate: str
    address: str


class Judge:
    """Says whether a request may go on, and keeps the books about it."""

    def __init__(self, rules: Rules, log: AccessLog, observations: Observations) -> None:
        self.rules = rules
        self.log = log
        self.observations = observations
        self._callers = Callers(rules.caller)
        self._rate = RateLimit(rules.rate)

    def admit(self, access: Access, asked: Asked) -> None:
        """Name the caller, and count the request against its rate; raises Refused."""
        try:
            access.caller = self._callers.name(asked.headers, asked.certificate, asked.address)
        except Unknown as why:
            raise Refused("unknown-caller", str(why)) from None
        wait = self._rate.wait_s(access.caller)
        if wait:
            raise Refused("limited", f"too many requests; the next one in {wait:.1f} s", wait)

    def model(self, access: Access, size: int) -> ModelRule:
        """The rules of the model that is asked for; raises Refused."""
        rule = self.rules.models.get(access.model)
        if rule is None:
            raise Refused("rejected", f"model {access.model[:80]!r} is not declared")
        if access.version and rule.versions and access.version not in rule.versions:
            raise Refused(
                "rejected",
                f"version {access.version[:20]!r} of model {rule.name!r} is not declared; "
                f"versions are {', '.join(sorted(rule.versions))}",
            )
        if not access.version and rule.versions:
            raise Refused("rejected", f"name a version of model {rule.name!r}: {', '.join(sorted(rule.versions))}")
        if size > rule.body_bytes:
            raise Refused("too-large", f"the request has {size} bytes; {rule.body_bytes} are allowed")
        return rule

    def check(self, access: Access, rule: ModelRule, read: Callable[[], InferenceRequest]) -> InferenceRequest:
        """Read the body and hold it to the rules; raises Refused."""
        try:
            request = read()
            access.id = request.id[:128]
            check_request(request.tensors, rule)
        except Rejected as why:
            raise Refused("rejected", str(why)) from None
        return request

    def observe(
        self, access: Access, request: InferenceRequest | None = None, prediction: Sequence[float] = ()
    ) -> None:
        """Tell the exporter about one request for a declared model; with features where there is a prediction."""
        rule = self.rules.models.get(access.model)
        if rule is None:
            return
        # What a caller may write freely is no label: else each number would be a time series.
        known = access.verdict == "accepted" or access.version in rule.versions
        observation: dict[str, object] = {
            "protocol": access.protocol,
            "model": access.model,
            "version": access.version if known else "",
            "verdict": access.verdict,
            "seconds": access.total_ms / 1000,
        }
        if request is not None and prediction:
            observation |= {"id": access.id, "features": features(request, rule), "prediction": prediction}
        self.observations.send(observation)
