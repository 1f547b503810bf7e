"""The OPA engine against a real OPA: whatever goes wrong there, no rule falls silent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from admission.finding import Finding
from admission.validator import PolicyError, RuleFailure
from tests.controlplane.certificates import Authority
from tests.controlplane.waiting import wait_until
from tests.rego.opa import Opa, Proxy, answering, build_bundle, bundle_arguments, listening, serving, write_keys
from tests.rego.policies import DIVIDES, INPUT, SAYS, Failures, labelled, rule, run
from webhook.rego.opa_client import OpaServer
from webhook.rego.opa_engine import OpaEngine, OpaLimits
from webhook.rego.policy_set import PolicySet
from webhook.rego.sources import FolderSource

PATIENT = OpaLimits(deadline_seconds=20)


def written(folder: Path) -> PolicySet:
    folder.mkdir(exist_ok=True)
    (folder / "says.rego").write_bytes(rule("says", SAYS))
    (folder / "divides.rego").write_bytes(rule("divides", DIVIDES))
    return FolderSource(folder).read()


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> PolicySet:
    return written(tmp_path_factory.mktemp("policies"))


@pytest.fixture(scope="module")
def opa(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opa]:
    """With the two rules, from a bundle that is signed."""
    folder = tmp_path_factory.mktemp("opa")
    written(folder / "policies")
    private, public = write_keys(folder, "ours")
    build_bundle(folder / "policies", folder / "bundle.tar.gz", private)
    with serving(folder) as service, Opa(folder, *bundle_arguments(folder, service, "bundle.tar.gz", public)) as found:
        wait_until(found.loaded, "OPA to load its bundle")
        yield found


def said(text: str) -> list[Finding]:
    return [Finding("says", "spec", text, "see the rule's description")]


def test_findings_come_from_opa_with_the_revision_of_its_bundle(policies: PolicySet, opa: Opa) -> None:
    async def main() -> None:
        engine = OpaEngine(policies, OpaServer(opa.url), limits=PATIENT)
        assert await engine.evaluate(labelled(say="x")) == {"says": said("x")}
        assert await engine.evaluate(INPUT) == {}
        assert engine.revision == f"{policies.revision}/r1"
        assert engine.problem == ""
        await engine.close()

    run(main)


def test_a_review_is_one_request_on_a_kept_connection(policies: PolicySet, opa: Opa) -> None:
    async def main() -> None:
        async with Proxy(opa.port).running() as proxy:
            engine = OpaEngine(policies, OpaServer(proxy.url), limits=PATIENT)
            for _ in range(5):
                await engine.evaluate(INPUT)
            assert (proxy.requests, proxy.connections) == (5, 1)
            await engine.close()

    run(main)


def test_a_rule_that_fails_fails_alone(policies: PolicySet, opa: Opa) -> None:
    async def main() -> None:
        failures = Failures()
        engine = OpaEngine(policies, OpaServer(opa.url), on_failure=failures, limits=PATIENT)
        found = await engine.evaluate(labelled(say="x", divide="y"))
        assert found["says"] == said("x")
        failed = found["divides"]
        assert isinstance(failed, RuleFailure)
        assert "rule divides failed" in failed.reason
        assert failed.reason.endswith("divides.rego:10:2: eval_builtin_error")
        assert failures.seen == [("divides", "error")]
        await engine.close()

    run(main)


def test_an_opa_that_is_killed_fails_every_rule_and_works_again_when_it_is_back(
    policies: PolicySet, tmp_path: Path
) -> None:
    async def main() -> None:
        failures, now = Failures(), [0.0]
        limits = OpaLimits(deadline_seconds=20, failures=2, pause_seconds=5)
        folder = tmp_path / "policies"
        written(folder)
        with Opa(tmp_path, "--bundle", str(folder)) as opa:
            engine = OpaEngine(policies, OpaServer(opa.url), None, failures, limits, lambda: now[0])
            assert await engine.evaluate(labelled(say="x")) == {"says": said("x")}
        for _ in range(3):
            found = await engine.evaluate(INPUT)
            assert set(found) == {"says", "divides"}
            assert all(isinstance(one, RuleFailure) for one in found.values())
        assert [cause for rule_id, cause in failures.seen if rule_id == "says"] == [
            "unreachable",
            "unreachable",
            "open",
        ]
        assert engine.problem == "OPA is not asked: it failed 2 times in a row"
        with Opa(tmp_path, "--bundle", str(folder), port=opa.port):
            now[0] = 5.0
            assert await engine.evaluate(labelled(say="x")) == {"says": said("x")}
            assert engine.problem == ""
        await engine.close()

    run(main)


def test_a_slow_opa_fails_every_rule_at_the_deadline(policies: PolicySet, opa: Opa) -> None:
    async def main() -> None:
        failures = Failures()
        async with Proxy(opa.port, delay=30).running() as proxy:
            engine = OpaEngine(policies, OpaServer(proxy.url), None, failures, OpaLimits(deadline_seconds=0.2))
            found = await engine.evaluate(INPUT)
            assert found == dict.fromkeys(["divides", "says"], RuleFailure("OPA did not answer within 0.2 s"))
            assert {cause for _, cause in failures.seen} == {"timeout"}
            await engine.close()

    run(main)


GARBAGE = {
    "no JSON": (answering(200, b"<html>"), "OPA answered 200 with something else than a JSON object"),
    "a list": (answering(200, b"[]"), "OPA answered 200 with something else than a JSON object"),
    "packages that are a list": (answering(200, b'{"result": []}'), "OPA answered something else than packages"),
    "findings that are a text": (
        answering(200, b'{"result": {"says": {"findings": "x"}, "divides": {"findings": "x"}}}'),
        "answered a text instead of a set of findings",
    ),
    "too much": (answering(200, b'{"result": "' + b"x" * (5 << 20) + b'"}'), "OPA answered more than 4 MiB"),
    "an error of something between": (answering(503, b"{}"), "OPA answered 503"),
    "a redirect": (answering(302, b"{}"), "OPA answered 302"),
    "another protocol": (b"SSH-2.0-x\r\n\r\n", "OPA cannot be reached"),
}


@pytest.mark.parametrize(("answer", "sentence"), GARBAGE.values(), ids=list(GARBAGE))
def test_garbage_fails_every_rule(policies: PolicySet, opa: Opa, answer: bytes, sentence: str) -> None:
    async def main() -> None:
        async with Proxy(opa.port, answer=answer).running() as proxy:
            engine = OpaEngine(policies, OpaServer(proxy.url), limits=PATIENT)
            found = await engine.evaluate(INPUT)
            assert set(found) == {"says", "divides"}
            for one in found.values():
                assert isinstance(one, RuleFailure)
                assert sentence in one.reason
            await engine.close()

    run(main)


def test_a_connection_that_breaks_is_tried_once_more(policies: PolicySet, opa: Opa) -> None:
    async def main() -> None:
        async with Proxy(opa.port).running() as proxy:
            engine = OpaEngine(policies, OpaServer(proxy.url), limits=PATIENT)
            proxy.answer = answering(503, b"{}")
            await engine.evaluate(INPUT)
            assert proxy.requests == 2
            await engine.close()

    run(main)


def test_a_bundle_with_a_wrong_signature_leaves_no_policy_and_that_is_said(policies: PolicySet, tmp_path: Path) -> None:
    async def main() -> None:
        written(tmp_path / "policies")
        (theirs, _), (_, ours) = write_keys(tmp_path, "theirs"), write_keys(tmp_path, "ours")
        build_bundle(tmp_path / "policies", tmp_path / "bundle.tar.gz", theirs)
        failures = Failures()
        with (
            serving(tmp_path) as service,
            Opa(tmp_path, *bundle_arguments(tmp_path, service, "bundle.tar.gz", ours)) as opa,
        ):
            wait_until(
                lambda: "failed to verify" in opa.process.log_tail() or "verif" in opa.process.log_tail(),
                "OPA to refuse the bundle",
            )
            engine = OpaEngine(policies, OpaServer(opa.url), on_failure=failures, limits=PATIENT)
            found = await engine.evaluate(INPUT)
            sentence = "OPA has no policy of Tidewaiter loaded; look at its bundle"
            assert found == dict.fromkeys(["divides", "says"], RuleFailure(sentence))
            assert {cause for _, cause in failures.seen} == {"not-loaded"}
            assert engine.problem == sentence
            await engine.close()

    run(main)


def test_a_rule_that_opa_has_not_loaded_fails(tmp_path: Path) -> None:
    async def main() -> None:
        folder = tmp_path / "policies"
        written(folder)
        with Opa(tmp_path, "--bundle", str(folder)) as opa:
            (folder / "more.rego").write_bytes(rule("more", SAYS))
            engine = OpaEngine(FolderSource(folder).read(), OpaServer(opa.url), limits=PATIENT)
            found = await engine.evaluate(labelled(say="x"))
            assert found == {
                "says": said("x"),
                "more": RuleFailure("rule more is not loaded by OPA; look at its bundle"),
            }
            await engine.close()

    run(main)


def test_a_token_is_asked_for_and_read_again_when_it_changed(policies: PolicySet, tmp_path: Path) -> None:
    async def main() -> None:
        written(tmp_path / "policies")
        (tmp_path / "authz.rego").write_text(
            'package system.authz\n\ndefault allow := false\n\nallow if input.identity == "right"\n\nallow if input.path == ["health"]\n'
        )
        token = tmp_path / "token"
        token.write_text("wrong\n")
        with Opa(tmp_path, "--authentication=token", "--authorization=basic", str(tmp_path / "policies"),
                 str(tmp_path / "authz.rego")) as opa:  # fmt: skip
            nobody = OpaEngine(policies, OpaServer(opa.url), limits=PATIENT)
            refused = (await nobody.evaluate(INPUT))["says"]
            assert refused == RuleFailure("OPA answered 401; give it a token that it accepts")
            await nobody.close()
            engine = OpaEngine(policies, OpaServer(opa.url, token_file=token), limits=PATIENT)
            assert isinstance((await engine.evaluate(INPUT))["says"], RuleFailure)
            token.write_text("right\n")
            assert await engine.evaluate(labelled(say="x")) == {"says": said("x")}
            await engine.close()

    run(main)


@pytest.mark.parametrize("url", ["opa:8181", "ftp://opa", "http://opa/path", "http://"])
def test_an_address_that_is_none_is_refused(policies: PolicySet, url: str) -> None:
    with pytest.raises(PolicyError, match="must be like http://host:8181"):
        OpaEngine(policies, OpaServer(url))


def test_tls_is_verified_with_the_authority_that_is_given(policies: PolicySet, tmp_path: Path) -> None:
    async def main() -> None:
        written(tmp_path / "policies")
        for name in ("ours", "theirs"):
            (tmp_path / name).mkdir()
        ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
        server = ours.issue("opa", "opa", addresses=["127.0.0.1"])
        client = ours.issue("tidewaiter", "tidewaiter")
        arguments = (
            *("--tls-cert-file", str(server.certificate), "--tls-private-key-file", str(server.key)),
            *("--tls-ca-cert-file", str(ours.pair.certificate), "--authentication", "tls"),
        )
        with Opa(tmp_path, *arguments, "--bundle", str(tmp_path / "policies"), listens=False) as opa:
            wait_until(lambda: listening(opa.port), "OPA to listen")
            url = opa.url.replace("http:", "https:")
            mutual = OpaServer(url, ours.pair.certificate, client.certificate, client.key)
            engine = OpaEngine(policies, mutual, limits=PATIENT)
            assert await engine.evaluate(labelled(say="x")) == {"says": said("x")}
            await engine.close()
            for wrong in (
                OpaServer(url),
                OpaServer(url, theirs.pair.certificate),
                OpaServer(url, ours.pair.certificate),
            ):
                refused = OpaEngine(policies, wrong, limits=PATIENT)
                found = (await refused.evaluate(INPUT))["says"]
                assert isinstance(found, RuleFailure)
                assert "OPA cannot be reached" in found.reason
                await refused.close()

    run(main)


def test_an_authority_that_cannot_be_read_fails_every_rule(policies: PolicySet, tmp_path: Path) -> None:
    async def main() -> None:
        engine = OpaEngine(policies, OpaServer("https://127.0.0.1:1", tmp_path / "nowhere.crt"), limits=PATIENT)
        found = (await engine.evaluate(INPUT))["says"]
        assert isinstance(found, RuleFailure)
        assert "the certificates for OPA cannot be read" in found.reason

    run(main)
