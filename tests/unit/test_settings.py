"""The settings file: every mistake is told with its line and with what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from admission.finding import Action
from admission.mutator import MutatorSettings
from admission.namespace import Mode
from admission.strict_yaml import DocumentError
from webhook.policy_engines import embedded_engines
from webhook.settings import MUTATORS, VALIDATORS, Settings, load_settings, settings_revision


def load(folder: Path, text: str) -> Settings:
    """As `tidewaiter serve` and `tidewaiter config check` do: rules in Rego are known only with the policies."""
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    settings = load_settings(path)
    embedded_engines(settings, path.name)
    return settings


MISTAKES = {
    "an unknown key": ("server: {}\nserverr: {}\n", "settings.yaml:2: serverr: unknown key", "did you mean 'server'?"),
    "an unknown key below": ("server:\n  prot: 1\n", "settings.yaml:2: server.prot: unknown key", "mean 'port'?"),
    "a wrong type": ("server:\n  port: many\n", "settings.yaml:2: server.port: input should be", "found 'many'"),
    "a number out of range": ("server: {port: 70000}\n", "server.port: input should be less than", "found '70000'"),
    "no patience at all": ("server: {readSeconds: 0}\n", "server.readSeconds", "greater than 0"),
    "no environment": ("environments: {}\n", "environments", "at least 1 item"),
    "an unknown mutator": ("mutators: {cost-label: {}}\n", "mutators.cost-label", "did you mean 'cost-labels'?"),
    "an unknown mode": (
        "mutators:\n  cost-labels:\n    mode: {production: aply}\n",
        "settings.yaml:3: mutators.cost-labels.mode.production",
        "'off', 'preview' or 'apply', found 'aply'",
    ),
    "a mode of an unknown environment": (
        "mutators: {cost-labels: {mode: {prod: apply}}}\n",
        "mutators.cost-labels.mode.prod: there is no such environment",
        "use *, development, staging, production",
    ),
    "an unknown rule": ("rules: {image-pined: {}}\n", "rules.image-pined", "did you mean 'image-pinned'?"),
    "an unknown action": (
        "rules: {image-pinned: {action: {production: refuse}}}\n",
        "rules.image-pinned.action.production",
        "'deny', 'warn', 'audit' or 'off', found 'refuse'",
    ),
    "an action of an unknown environment": (
        "rules: {image-pinned: {action: {prod: deny}}}\n",
        "rules.image-pinned.action.prod: there is no such environment",
        "use *, development, staging, production",
    ),
    "an action of a Rego rule in an unknown environment": (
        "rules: {image-registry: {action: {prod: deny}}}\n",
        "rules.image-registry.action.prod: there is no such environment",
        "use *, development, staging, production",
    ),
    "a Rego rule that is no mapping": ("rules: {image-registry: 7}\n", "rules.image-registry", "found '7'"),
    "a namespace of an unknown environment": (
        "namespaces:\n  models: {environment: prod}\n",
        "settings.yaml:2: namespaces.models.environment: there is no environment 'prod'",
        "use development, staging, production",
    ),
    "an unknown mutator of a namespace": (
        "namespaces: {models: {modes: {cost-label: off}}}\n",
        "namespaces.models.modes.cost-label: there is no such mutator",
        "the mutators are gpu-scheduling",
    ),
    "an unknown rule of a namespace": (
        "namespaces: {models: {actions: {image-pined: deny}}}\n",
        "namespaces.models.actions.image-pined: there is no such rule",
        "did you mean 'image-pinned'?",
    ),
    "a default workload that is not allowed": (
        "environments: {production: {workloads: [inference], defaultWorkload: training}}\n",
        "environments.production.defaultWorkload",
        "training is not among its workloads",
    ),
    "a certificate without its key": ("server: {certificate: a.crt}\n", "settings.yaml:1: server", "go together"),
    "a key without its certificate": ("server: {key: a.key}\n", "settings.yaml:1: server", "go together"),
    "a key given twice": ("server: {port: 1, port: 2}\n", "key 'port' was given already on line 1", "give it once"),
    "a list": ("- server\n", "settings.yaml:1", "no mapping"),
    "no YAML": ("server: [\n", "settings.yaml:", ""),
}


@pytest.mark.parametrize(("text", "where", "what"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, text: str, where: str, what: str) -> None:
    with pytest.raises(DocumentError) as caught:
        load(tmp_path, text)

    assert where in str(caught.value)
    assert what in str(caught.value)
    assert len(caught.value.problems) == 1


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        load(tmp_path, "server: {port: many}\nregistri: {}\nmutators: {cost-label: {}}\n")

    assert len(caught.value.problems) == 3


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "# nothing yet\n").model_dump() == Settings().model_dump()


def test_what_the_file_says_of_mutators_and_rules_holds(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        """
        mutators: {cost-labels: {mode: {production: preview}}}
        rules:
          image-pinned: {action: {production: deny}}
          image-registry: {action: {"*": audit}}
        """,
    )

    assert settings.mutator("cost-labels").mode == {"production": Mode.PREVIEW}
    assert settings.rule("image-pinned").action == {"production": Action.DENY}
    assert settings.rule("image-registry").action == {"*": Action.AUDIT}
    assert settings.rule("host-access").action == {}


def test_every_mutator_and_rule_has_its_settings() -> None:
    settings = Settings()

    assert all(type(settings.mutator(one.id)) is one.settings for one in MUTATORS)
    assert all(type(settings.rule(one.id)) is one.settings for one in VALIDATORS)
    assert issubclass(MUTATORS[0].settings, MutatorSettings)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(
        "registries: [{name: file, type: file, path: models.yaml}]\n"
        "policies: {directory: own}\n"
        "server: {certificate: tls/tls.crt, key: /keys/tls.key}\n",
        encoding="utf-8",
    )

    settings = load_settings(tmp_path / "settings.yaml")

    assert settings.folder == tmp_path
    assert settings.policies.directory == tmp_path / "own"
    assert settings.server.certificate == tmp_path / "tls" / "tls.crt"
    assert settings.server.key == Path("/keys/tls.key")


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), (b"\xff", "it is not UTF-8")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "settings.yaml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(DocumentError, match=f"settings.yaml cannot be read: {reason}"):
        load_settings(path)


def test_the_own_namespace_and_the_systems_are_exempt(tmp_path: Path) -> None:
    settings = load(tmp_path, "server: {namespace: border}\n")

    assert settings.exempt("border")
    assert settings.exempt("kube-system")
    assert not settings.exempt("tidewaiter")
    assert not settings.exempt("models")


@pytest.mark.parametrize(
    "given",
    [
        {"environments": {"production": {"action": "audit"}}},
        {"rules": {"image-pinned": {"action": "off"}}},
        {"rules": {"deploy-permission": {"by": "subject-access-review"}}},
        {"mutators": {"gpu-scheduling": {"preemptible": []}}},
        {"registries": [{"name": "a", "type": "file", "path": "x"}]},
        {"registries": [{"name": "a", "type": "file", "path": "y"}]},
        {"namespaces": {"a": {"actions": {"image-pinned": "off"}}}},
    ],
)
def test_the_revision_of_settings_changes_with_what_they_say_and_with_nothing_else(given: dict[str, object]) -> None:
    plain, revision = settings_revision(Settings()), settings_revision(Settings.model_validate(given))

    assert revision == settings_revision(Settings.model_validate(given))
    assert revision != plain


def test_settings_of_different_registries_have_different_revisions() -> None:
    first, second = (
        settings_revision(Settings.model_validate({"registries": [{"name": "a", "type": "file", "path": path}]}))
        for path in ("x", "y")
    )
    assert first != second
