"""Who may propose, approve, reject and revoke, on a real API server with real RBAC."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from admission.approval import Approval, ApprovalState, NotFound
from tests.cluster.governed import PIPELINE, Governed, governed, version_of
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.waiting import wait_until


@pytest.fixture(scope="module")
def tower(control_plane: ControlPlane) -> Iterator[Governed]:
    with governed(control_plane) as running:
        yield running


def _entry(environment: str, state: str = "approved", **more: str) -> dict:
    return {"status": {"approvals": [{"environment": environment, "state": state, **more}]}}


def _says(tower: Governed, model: str, state: ApprovalState, environment: str = "") -> Approval:
    def found() -> Approval | None:
        answer = tower.registry.lookup(model, "1", environment)
        return answer if isinstance(answer, Approval) and answer.state is state else None

    return wait_until(found, f"the registry to say that {model}:1 is {state.value}", 10)


# Proposing


def test_a_developer_proposes_and_is_written_down_whatever_the_manifest_says(tower: Governed) -> None:
    done = tower.create("mia", version_of("proposed", proposedBy="ada"))

    assert done.returncode == 0, done.stderr
    stored = tower.plane.get("modelversion", "proposed--1")
    assert stored is not None
    assert stored["spec"]["proposedBy"] == "mia"


def test_a_pipeline_proposes(tower: Governed) -> None:
    tower.proposed(PIPELINE, "built")


def test_an_approver_without_the_developers_role_does_not_propose(tower: Governed) -> None:
    assert "cannot create resource" in tower.create("sam", version_of("foreign")).stderr


def test_a_status_that_comes_with_the_proposal_is_dropped(tower: Governed) -> None:
    entry = {"environment": "production", "approver": "ada", "state": "approved"}
    obj = {**version_of("born-approved"), "status": {"state": "approved", "approvals": [entry]}}

    assert tower.create("mia", obj).returncode == 0
    stored = tower.plane.get("modelversion", "born-approved--1")
    assert stored is not None
    assert "status" not in stored
    _says(tower, "born-approved", ApprovalState.PROPOSED)


def test_a_version_is_proposed_under_no_other_name(tower: Governed) -> None:
    tower.proposed("mia", "acme/Twice", "1.0")
    again = {**version_of("acme/Twice", "1.0"), "metadata": {"name": "twice-2"}}

    assert "metadata.name: 'twice-2' is not the name of acme/Twice:1.0; name it acme-twice-1-0---" in (
        tower.create("mia", again).stderr
    )


@pytest.mark.parametrize("field", ["digest", "proposedBy", "source"])
def test_what_was_proposed_never_changes(tower: Governed, field: str) -> None:
    name = f"fixed-{field.lower()}"
    tower.proposed("mia", name)
    changed = {"digest": f"sha256:{'b' * 64}", "proposedBy": "somebody", "source": "s3://other/bytes"}[field]

    done = tower.patch("root", f"{name}--1", {"spec": {field: changed}})

    assert "a model version never changes; propose another version" in done.stderr


def test_a_label_may_be_changed(tower: Governed) -> None:
    tower.proposed("mia", "labelled")

    assert tower.patch("root", "labelled--1", {"metadata": {"labels": {"team": "vision"}}}).returncode == 0


def test_applying_the_same_manifest_again_keeps_the_proposer(tower: Governed) -> None:
    tower.proposed("mia", "applied")

    tower.plane.kubectl("replace", "-f", "-", input=json.dumps(version_of("applied")), user="root")

    stored = tower.plane.get("modelversion", "applied--1")
    assert stored is not None
    assert stored["spec"]["proposedBy"] == "mia"


# Approving


def test_a_developer_does_not_approve(tower: Governed) -> None:
    tower.proposed("mia", "undecided")

    done = tower.cli("mia", "model", "approve", "undecided:1", "-e", "staging")

    assert done.exit_code == 1
    assert "resources [modelversions/status], verbs [update]" in done.stderr
    assert "ClusterRole tidewaiter-model-approver-staging" in done.stderr


def test_an_approver_is_written_down_with_the_time(tower: Governed) -> None:
    tower.proposed("mia", "stamped")
    entry = _entry("staging", approver="sam", at="2020-01-01T00:00:00Z", expires="2090-01-01T00:00:00Z")

    done = tower.patch("sam", "stamped--1", entry, "--subresource=status")

    assert done.returncode == 0, done.stderr
    stored = tower.plane.get("modelversion", "stamped--1")
    assert stored is not None
    (written,) = stored["status"]["approvals"]
    assert written["approver"] == "sam"
    assert datetime.now(UTC) - datetime.fromisoformat(written["at"]) < timedelta(minutes=5)
    assert (stored["status"]["state"], stored["status"]["environments"]) == ("approved", ["staging"])


def test_an_entry_needs_no_name_to_be_its_writers_own(tower: Governed) -> None:
    tower.proposed("mia", "nameless")

    done = tower.patch("sam", "nameless--1", _entry("staging"), "--subresource=status")

    assert done.returncode == 0, done.stderr
    assert tower.approvals("nameless--1") == {("staging", "sam"): "approved"}


def test_an_approver_of_staging_does_not_approve_for_production(tower: Governed) -> None:
    tower.proposed("mia", "too-far")

    done = tower.cli("sam", "model", "approve", "too-far:1", "-e", "production")

    assert done.exit_code == 1
    assert "sam may not approve for production" in done.stderr
    assert "resourceNames [production]" in done.stderr
    assert tower.approvals("too-far--1") == {}


def test_everything_is_refused_where_one_of_two_environments_is(tower: Governed) -> None:
    tower.proposed("mia", "half")

    done = tower.cli("sam", "model", "approve", "half:1", "-e", "staging", "-e", "production")

    assert done.exit_code == 1
    assert tower.approvals("half--1") == {}


def test_nobody_approves_their_own(tower: Governed) -> None:
    tower.proposed("max", "own")

    done = tower.cli("max", "model", "approve", "own:1", "-e", "staging")

    assert done.exit_code == 1
    assert "max proposed own:1, and nobody approves their own" in done.stderr


def test_a_pipeline_proposes_but_does_not_approve_even_where_rbac_would_let_it(tower: Governed) -> None:
    tower.proposed("mia", "by-hand")

    done = tower.cli(PIPELINE, "model", "approve", "by-hand:1", "-e", "staging")

    assert done.exit_code == 1
    assert f"{PIPELINE} is a service account, and those may propose but not approve" in done.stderr


def test_nobody_speaks_as_somebody_else(tower: Governed) -> None:
    tower.proposed("mia", "impersonated")

    done = tower.patch("sam", "impersonated--1", _entry("staging", approver="ada"), "--subresource=status")

    assert "sam cannot speak as ada for staging" in done.stderr


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        ([], "taken away"),
        ([{"environment": "staging", "approver": "sam", "state": "rejected"}], "changed"),
    ],
)
def test_nobody_touches_the_entry_of_another(tower: Governed, entries: list[dict], what: str) -> None:
    model = f"touched-{what.replace(' ', '-')}"
    tower.proposed("mia", model)
    assert tower.cli("sam", "model", "approve", f"{model}:1", "-e", "staging").exit_code == 0

    done = tower.patch("ada", f"{model}--1", {"status": {"approvals": entries}}, "--subresource=status")

    assert f"the entry of sam for staging would be {what}" in done.stderr
    assert tower.approvals(f"{model}--1") == {("staging", "sam"): "approved"}


def test_an_approver_takes_their_own_approval_back(tower: Governed) -> None:
    tower.proposed("mia", "withdrawn")
    assert tower.cli("sam", "model", "approve", "withdrawn:1", "-e", "staging").exit_code == 0

    done = tower.patch("sam", "withdrawn--1", {"status": {"approvals": None}}, "--subresource=status")

    assert done.returncode == 0, done.stderr
    _says(tower, "withdrawn", ApprovalState.PROPOSED)


def test_an_environment_that_does_not_exist_is_named_with_those_that_do(tower: Governed) -> None:
    tower.proposed("mia", "mistyped")

    done = tower.cli("ada", "model", "approve", "mistyped:1", "-e", "prod")

    assert done.exit_code == 1
    assert "there is no environment 'prod'; the environments are development, staging, production" in done.stderr


def test_an_approval_in_the_past_is_none(tower: Governed) -> None:
    tower.proposed("mia", "late")

    done = tower.patch("sam", "late--1", _entry("staging", approver="sam", expires="2020-01-01T00:00:00Z"),
                       "--subresource=status")  # fmt: skip

    assert "2020-01-01T00:00:00Z is past" in done.stderr


def test_production_wants_two_people(tower: Governed) -> None:
    tower.proposed("mia", "two")

    first = tower.cli("ada", "model", "approve", "two:1", "-e", "production")
    again = tower.cli("ada", "model", "approve", "two:1", "-e", "production")
    between = tower.approvals("two--1")
    waiting = tower.registry.lookup("two", "1", "production")
    second = tower.cli("tom", "model", "approve", "two:1", "-e", "production", "--expires", "90d")

    assert "two:1 is not yet approved for production (1 of 2 approvals)" in first.stdout
    assert "1 of 2 approvals" in again.stdout
    assert between == {("production", "ada"): "approved"}
    assert isinstance(waiting, Approval | NotFound)
    assert not isinstance(waiting, Approval) or waiting.state is ApprovalState.PROPOSED
    assert "two:1 is approved for production (2 of 2 approvals)" in second.stdout
    found = _says(tower, "two", ApprovalState.APPROVED, "production")
    assert (found.approvers, found.environments) == (("ada", "tom"), ("production",))
    assert found.expires is not None


def test_an_approval_reaches_the_registry_and_a_revocation_does(tower: Governed) -> None:
    tower.proposed("mia", "recalled")

    assert tower.cli("sam", "model", "approve", "recalled:1", "-e", "staging").exit_code == 0
    _says(tower, "recalled", ApprovalState.APPROVED, "staging")
    done = tower.cli("ada", "model", "revoke", "recalled:1", "-e", "staging", "--reason", "poisoned data")

    assert "recalled:1 is revoked for staging (revoked by ada)" in done.stdout
    _says(tower, "recalled", ApprovalState.REVOKED, "staging")


def test_a_revocation_holds_for_good(tower: Governed) -> None:
    tower.proposed("mia", "gone")
    tower.cli("sam", "model", "revoke", "gone:1", "-e", "staging", "--reason", "poisoned data")

    # What the schema itself can see, it refuses before the webhook is asked.
    for user, sentence in (("sam", "a revocation holds for good"), ("ada", "gone:1 was revoked for staging by sam")):
        done = tower.cli(user, "model", "approve", "gone:1", "-e", "staging")
        assert done.exit_code == 1
        assert sentence in done.stderr
    done = tower.patch("sam", "gone--1", {"status": {"approvals": []}}, "--subresource=status")
    assert done.returncode != 0
    assert tower.approvals("gone--1") == {("staging", "sam"): "revoked"}


def test_a_revocation_in_one_environment_leaves_the_other(tower: Governed) -> None:
    tower.proposed("mia", "partly")
    assert tower.cli("sam", "model", "approve", "partly:1", "-e", "staging").exit_code == 0
    assert tower.cli("tom", "model", "revoke", "partly:1", "-e", "production", "--reason", "too slow").exit_code == 0

    _says(tower, "partly", ApprovalState.REVOKED, "production")
    _says(tower, "partly", ApprovalState.APPROVED, "staging")


def test_a_rejection_outweighs_an_approval_until_it_is_taken_back(tower: Governed) -> None:
    tower.proposed("mia", "disputed")
    tower.cli("sam", "model", "approve", "disputed:1", "-e", "staging")
    tower.cli("ada", "model", "reject", "disputed:1", "-e", "staging", "--reason", "no model card")
    _says(tower, "disputed", ApprovalState.REJECTED, "staging")

    assert tower.cli("ada", "model", "approve", "disputed:1", "-e", "staging").exit_code == 0

    _says(tower, "disputed", ApprovalState.APPROVED, "staging")


def test_whoever_approves_is_told_what_the_evidence_lacks(tower: Governed) -> None:
    evaluation = [{"metric": "accuracy", "value": 0.7, "atLeast": 0.9}]
    assert tower.create("mia", version_of("weak", evidence={"evaluation": evaluation})).returncode == 0

    done = tower.cli("sam", "model", "approve", "weak:1", "-e", "staging")

    assert done.exit_code == 0
    assert "Warning: weak:1: metric accuracy is 0.7, below its threshold 0.9" in done.stderr


def test_a_dry_run_is_judged_and_changes_nothing(tower: Governed) -> None:
    tower.proposed("mia", "dry")

    good = tower.patch("sam", "dry--1", _entry("staging", approver="sam"), "--subresource=status", "--dry-run=server")
    bad = tower.patch("sam", "dry--1", _entry("production", approver="sam"), "--subresource=status", "--dry-run=server")

    assert good.returncode == 0, good.stderr
    assert "sam may not approve for production" in bad.stderr
    assert tower.approvals("dry--1") == {}


def test_a_deleted_version_is_not_found_and_the_others_are_named(tower: Governed) -> None:
    tower.proposed("mia", "forgotten", "1")
    tower.proposed("mia", "forgotten", "2")

    tower.plane.kubectl("delete", "modelversion", "forgotten--1", user="root")

    wait_until(lambda: tower.registry.lookup("forgotten", "1") == NotFound(("2",)), "the registry to forget", 10)


def test_a_revoked_version_is_not_deleted_to_be_approved_anew(tower: Governed) -> None:
    name = tower.proposed("mia", "poisoned")
    tower.cli("sam", "model", "revoke", "poisoned:1", "-e", "staging", "--reason", "poisoned data")

    refused = tower.plane.kubectl("delete", "modelversion", name, user="root", check=False)
    collection = "/apis/tidewaiter.dev/v1alpha1/modelversions?fieldSelector=metadata.name%3D" + name
    tower.plane.kubectl("delete", "--raw", collection, user="root", check=False)

    assert "poisoned:1 was revoked for staging by sam" in refused.stderr
    assert "root may not delete it" in refused.stderr
    assert tower.approvals(name) == {("staging", "sam"): "revoked"}
    _says(tower, "poisoned", ApprovalState.REVOKED, "staging")


def test_whoever_may_forget_a_revocation_deletes_the_version(tower: Governed) -> None:
    name = tower.proposed("mia", "erased")
    tower.cli("sam", "model", "revoke", "erased:1", "-e", "staging", "--reason", "by mistake")

    done = tower.plane.kubectl("delete", "modelversion", name, user="eva", check=False)

    assert done.returncode == 0, done.stderr
    assert tower.plane.get("modelversion", name) is None


# Reading


def test_the_list_and_a_version_are_shown(tower: Governed) -> None:
    tower.proposed("mia", "shown")
    tower.cli("sam", "model", "approve", "shown:1", "-e", "staging", "--reason", "evaluated in run 7")

    listed = tower.cli("mia", "model", "list", "shown")
    shown = tower.cli("mia", "model", "show", "shown:1")
    found = json.loads(tower.cli("mia", "model", "list", "shown", "--format", "json").stdout)

    assert listed.stdout.splitlines()[1].split() == ["shown", "1", "approved", "staging", "mia"]
    assert "staging: 1 of 1 approvals" in shown.stdout
    assert "approved by sam at " in shown.stdout
    assert ": evaluated in run 7" in shown.stdout
    assert [one["metadata"]["name"] for one in found] == ["shown--1"]


def test_kubectl_lists_the_versions_of_a_model_with_their_state(tower: Governed) -> None:
    tower.proposed("mia", "columns", "1")
    tower.proposed("mia", "columns", "2")
    tower.cli("sam", "model", "approve", "columns:2", "-e", "staging")

    printed = tower.plane.kubectl("get", "mv", "--field-selector=spec.model=columns", "--no-headers", user="mia").stdout

    rows = sorted(line.split()[:5] for line in printed.splitlines())
    assert [row[:3] for row in rows] == [["columns--1", "columns", "1"], ["columns--2", "columns", "2"]]
    assert rows[1][3:] == ["approved", '["staging"]']


def test_an_unknown_version_is_refused_with_those_that_are_known(tower: Governed) -> None:
    tower.proposed("mia", "known", "7")

    done = tower.cli("sam", "model", "approve", "known:8", "-e", "staging")

    assert done.exit_code == 1
    assert done.stderr == "there is no known:8; its versions are 7\n"


def test_whoever_may_do_nothing_is_told_which_role_they_lack(tower: Governed) -> None:
    done = tower.cli("pat", "model", "list")

    assert done.exit_code == 1
    assert "verbs [list]; ClusterRole tidewaiter-viewer is one" in done.stderr


def test_a_version_is_proposed_from_the_command_line_once(tower: Governed) -> None:
    arguments = ("model", "propose", "cli:1", "--source", "s3://models/cli", "--digest", f"sha256:{'c' * 64}")

    first, second = tower.cli("mia", *arguments), tower.cli("mia", *arguments)

    assert first.stdout.startswith("cli:1 is proposed by mia.")
    assert second.exit_code == 1
    assert second.stderr == "cli:1 was proposed already, and a version never changes; propose another\n"


def test_a_context_that_does_not_exist_is_named(tower: Governed) -> None:
    done = tower.cli("mia", "model", "list", "--context", "elsewhere")

    assert done.exit_code == 2
    assert "elsewhere" in done.stderr


# Roles


def test_approval_is_in_no_role_of_kubernetes_itself(tower: Governed) -> None:
    listed = json.loads(tower.plane.kubectl("get", "clusterroles", "-o", "json").stdout)["items"]
    aggregated = {one["metadata"]["name"]: one["rules"] or [] for one in listed}

    for name in ("admin", "edit"):
        ours = [rule for rule in aggregated[name] if "tidewaiter.dev" in rule.get("apiGroups", ())]
        assert {verb for rule in ours for verb in rule["verbs"]} <= {"get", "list", "watch"}
    assert any("modelversions" in rule.get("resources", ()) for rule in aggregated["view"])


# The service down


def test_nothing_is_proposed_or_approved_while_nobody_reviews(tower: Governed) -> None:
    tower.proposed("mia", "waiting")

    with tower.down():
        proposed = tower.cli(
            "mia", "model", "propose", "unseen:1", "--source", "s3://m", "--digest", f"sha256:{'c' * 64}"
        )
        approved = tower.cli("sam", "model", "approve", "waiting:1", "-e", "staging")
        read = tower.cli("mia", "model", "show", "waiting:1")

    for done in (proposed, approved):
        assert done.exit_code == 1
        assert "Tidewaiter does not answer, and without its review nothing is changed" in done.stderr
    assert read.exit_code == 0
    assert tower.plane.get("modelversion", "unseen--1") is None
    assert tower.approvals("waiting--1") == {}
