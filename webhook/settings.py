"""Settings: one YAML file, held to a schema that is put together from what is installed.

Each mutator and each rule declares its own settings beside its code, so that adding one
edits nothing here.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, create_model, field_validator, model_validator

import mutators as mutator_modules
import validators as validator_modules
from admission.discovery import discover_mutators, discover_validators
from admission.finding import Action
from admission.mutator import Mutator, MutatorSettings
from admission.namespace import EnvironmentSettings, NamespaceSettings
from admission.pools import Pool, Taint
from admission.strict_yaml import DocumentError, Problem, parse_document
from admission.validator import RuleSettings, Validator
from admission.workload import WorkloadClass
from admission.workload_kinds.templates import template_kind
from admission.workload_kinds.workload_pod import WorkloadKind
from audit.settings import AuditSettings, PostgresSettings
from registries.image_signature_settings import ImageSignaturesSettings
from registries.settings import RegistriesSettings, RegistrySettings, same_names
from validators.deploy_permission import VALIDATOR as DEPLOY_PERMISSION
from validators.deploy_permission import DeployPermissionSettings, PermissionSource
from webhook.gate.thresholds import Gate
from webhook.governance.settings import GovernanceSettings, unknown_environments
from webhook.page.settings import PageSettings

MUTATORS = discover_mutators(mutator_modules)
VALIDATORS = discover_validators(validator_modules)

_CLOSED = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True)
_POOL_KEY = "tidewaiter.dev/pool"
_GPU_TAINT = Taint(key="nvidia.com/gpu", value="present")


def _name(identifier: str) -> str:
    return identifier.replace("-", "_")


def _fields(extensions: Iterable[Mutator[Any] | Validator[Any]]) -> dict[str, Any]:
    """One field for each mutator or rule, by its id."""
    return {_name(one.id): (one.settings, Field(default=one.settings(), alias=one.id)) for one in extensions}


_MutatorsSettings = create_model("MutatorsSettings", __config__=_CLOSED, **_fields(MUTATORS))


class _OpenRules(BaseModel):
    """Rules in Rego have no settings of their own but an action; their ids are checked on loading."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)
    __pydantic_extra__: dict[str, RuleSettings]


_RulesSettings = create_model("RulesSettings", __base__=_OpenRules, **_fields(VALIDATORS))


class PolicyLimits(BaseModel):
    """What a team's own policies may use; they run in a process of their own."""

    model_config = _CLOSED

    rule_seconds: float = Field(default=0.1, gt=0, le=5, alias="ruleSeconds")
    """How long one rule may take for one pod."""
    memory_megabytes: int = Field(default=256, ge=64, le=8192, alias="memoryMegabytes")
    """How much memory that process may use."""


class OpaSettings(BaseModel):
    """An OPA server that evaluates all policies, with a bundle of the same files."""

    model_config = _CLOSED

    url: str = "http://localhost:8181"
    """Where it listens."""
    ca_file: Path | None = Field(default=None, alias="caFile")
    """PEM file of the CA that signed its certificate; unset: the system's."""
    certificate: Path | None = None
    """PEM file of the client certificate, where it asks for one."""
    key: Path | None = None
    """PEM file of the client certificate's key."""
    token_file: Path | None = Field(default=None, alias="tokenFile")
    """File with the bearer token, where it asks for one."""
    connections: int = Field(default=32, ge=1, le=1024)
    """How many connections are kept open at most."""
    deadline_seconds: float = Field(default=1, gt=0, le=10, alias="deadlineSeconds")
    """How long a review waits for it, both attempts together; keep it below the webhook's timeout."""


class PolicySettings(BaseModel):
    """Rego policies: those that come with Tidewaiter, and a team's own from one place."""

    model_config = _CLOSED

    built_in: bool = Field(default=True, alias="builtIn")
    """Whether the policies that come with Tidewaiter hold."""
    data: Path | None = None
    """YAML file with data over that of the built-in policies, for example the allowed registries."""
    directory: Path | None = None
    """Folder of a team's own .rego files and data.yaml."""
    bundle: Path | None = None
    """OPA bundle (.tar.gz) of a team's own policies."""
    public_key: Path | None = Field(default=None, alias="publicKey")
    """PEM file; the bundle must be signed by its key."""
    config_map: str = Field(default="", alias="configMap")
    """ConfigMap in the service's own namespace with a team's own policies."""
    limits: PolicyLimits = PolicyLimits()
    """What a team's own policies may use."""
    opa: OpaSettings | None = None
    """An OPA server that evaluates them instead of this service."""

    @model_validator(mode="after")
    def _one_place(self) -> PolicySettings:
        places = [name for name in ("directory", "bundle", "config_map") if getattr(self, name)]
        if len(places) > 1:
            raise ValueError("give a team's own policies in one place: directory, bundle or configMap")
        if self.public_key is not None and self.bundle is None:
            raise ValueError("publicKey is about a bundle; give bundle too")
        return self


class WorkloadKindSettings(BaseModel):
    """A kind of workload whose pods come of pod templates."""

    model_config = _CLOSED

    group: str
    """API group, for example acme.io."""
    kind: str = Field(min_length=1)
    """Kind, for example ModelServer."""
    plural: str = Field(min_length=1)
    """Resource name, for example modelservers."""
    versions: tuple[str, ...] = ("*",)
    """Versions that are sent for review."""
    template: str = "spec.template"
    """Where pod templates stand; [*] for every entry of a list, .* for every member of a map."""

    @field_validator("template")
    @classmethod
    def _is_path(cls, value: str) -> str:
        template_kind("", "X", "xs", ("v1",), value)
        return value


class OnError(BaseModel):
    """What an error of ours does to a request."""

    model_config = _CLOSED

    mutate: bool = True
    """Let a pod through unmutated, with a warning."""
    validate_: bool = Field(default=False, alias="validate")
    """Let an object through unjudged, with a warning; False refuses it with a reason."""


class ServerSettings(BaseModel):
    """The listening process."""

    model_config = _CLOSED

    address: str = "0.0.0.0"  # noqa: S104  # a pod's own address is not known beforehand
    """Address to listen on."""
    port: int = Field(default=8443, ge=0, le=65535)
    """Port of the webhook, TLS."""
    health_port: int = Field(default=8080, ge=0, le=65535, alias="healthPort")
    """Port of /healthz, /readyz and /metrics, plain HTTP."""
    certificate: Path | None = None
    """PEM file with the certificate chain; unset: one is made at start, for local use."""
    key: Path | None = None
    """PEM file with the certificate's key."""
    client_ca: Path | None = Field(default=None, alias="clientCA")
    """PEM file of the CA that signs the API server's client certificate; set: nobody else is answered."""
    service: str = "tidewaiter"
    """Name of the Service that stands before the webhook."""
    namespace: str = "tidewaiter"
    """Namespace of the service itself; never reviewed."""
    read_seconds: float = Field(default=5, gt=0, alias="readSeconds")
    """How long a client may take to send a request."""
    drain_seconds: float = Field(default=5, ge=0, alias="drainSeconds")
    """How long to go on answering after SIGTERM, until no endpoint leads here."""


def _default_environments() -> dict[str, EnvironmentSettings]:
    return {
        "development": EnvironmentSettings(default_workload=WorkloadClass.DEVELOPMENT),
        "staging": EnvironmentSettings(),
        # Who may call a pod training may call a server so: what serves nobody has no approved version.
        "production": EnvironmentSettings(workloads=(WorkloadClass.INFERENCE, WorkloadClass.BATCH)),
    }


def _default_pools() -> dict[str, Pool]:
    def pool(name: str, workloads: tuple[WorkloadClass, ...], products: tuple[str, ...], **more: Any) -> Pool:
        return Pool(node_labels={_POOL_KEY: name}, taints=(_GPU_TAINT,), workloads=workloads, products=products, **more)

    spot = (_GPU_TAINT, Taint(key="cloud.google.com/gke-spot", value="true"))
    a100, h100 = "NVIDIA-A100-SXM4-80GB", "NVIDIA-H100-80GB-HBM3"
    return {
        "inference": pool("inference", (WorkloadClass.INFERENCE,), ("Tesla-T4", "NVIDIA-L4", a100)),
        "training": pool("training", (WorkloadClass.TRAINING, WorkloadClass.BATCH), (a100, h100), spot=True).model_copy(
            update={"taints": spot}
        ),
        "development": pool("development", (WorkloadClass.DEVELOPMENT,), ("Tesla-T4",), sharing="time-slicing"),
        "burst": pool("burst", (WorkloadClass.INFERENCE, WorkloadClass.BATCH), ("NVIDIA-L4",)),
    }


class Settings(BaseModel):
    """Everything that a platform team decides. Every key has a default."""

    model_config = _CLOSED

    environments: dict[str, EnvironmentSettings] = Field(default_factory=_default_environments, min_length=1)
    """Environments by name. A namespace says by label tidewaiter.dev/environment which is its own."""
    namespaces: dict[str, NamespaceSettings] = Field(default_factory=dict)
    """What holds in single namespaces, by name."""
    exempt_namespaces: tuple[str, ...] = Field(
        default=("kube-system", "kube-public", "kube-node-lease"), alias="exemptNamespaces"
    )
    """Namespaces that are never reviewed, besides the service's own."""
    pools: dict[str, Pool] = Field(default_factory=_default_pools)
    """Pools of GPU nodes by name."""
    mutators: _MutatorsSettings = Field(default_factory=_MutatorsSettings)
    """Mode and settings by mutator."""
    rules: _RulesSettings = Field(default_factory=_RulesSettings)
    """Action and settings by rule, in Python or Rego."""
    registries: tuple[RegistrySettings, ...] = ()
    """Where approvals come from, in the order in which they are asked."""
    registry_deadline_seconds: float = Field(default=2, gt=0, le=25, alias="registryDeadlineSeconds")
    """How long a review waits for all registries together; keep it below the webhook's timeout."""
    image_signatures: ImageSignaturesSettings = Field(default_factory=ImageSignaturesSettings, alias="imageSignatures")
    """Which images must carry a cosign signature, by whose key, and where signatures are asked for."""
    _folder: Path = PrivateAttr(default=Path())
    audit: AuditSettings = AuditSettings()
    """Where decision records are kept, and who signs them."""
    governance: GovernanceSettings = GovernanceSettings()
    """Who may approve model versions and exceptions."""
    gates: dict[str, Gate] = Field(default_factory=dict)
    """What `tidewaiter gate` asks of a model version, by environment, before it is approved there."""
    policies: PolicySettings = PolicySettings()
    """Rego policies."""
    workload_kinds: tuple[WorkloadKindSettings, ...] = Field(default=(), alias="workloadKinds")
    """Kinds of workload beside those that Tidewaiter knows."""
    controllers: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """User names of custom controllers by the kind whose pods they make, beside Kubernetes' own:
    PyTorchJob: [system:serviceaccount:kubeflow:training-operator]. Only in their requests does
    an owner reference say what a pod is."""
    allow_on_error: OnError = Field(default_factory=OnError, alias="allowOnError")
    """What an error of ours does to a request."""
    server: ServerSettings = ServerSettings()
    """The listening process."""
    page: PageSettings = PageSettings()
    """The page over decision records."""

    @property
    def folder(self) -> Path:
        """The folder of the settings file: what relative paths of registries are relative to."""
        return self._folder

    def mutator(self, identifier: str) -> MutatorSettings:
        """Settings of one mutator."""
        found: MutatorSettings = getattr(self.mutators, _name(identifier))
        return found

    def rule(self, identifier: str) -> RuleSettings:
        """Settings of one rule; those of a Rego rule that the file does not name are empty."""
        found = getattr(self.rules, _name(identifier), None) or (self.rules.model_extra or {}).get(identifier)
        return found if isinstance(found, RuleSettings) else RuleSettings()

    @cached_property
    def custom_kinds(self) -> dict[tuple[str, str], WorkloadKind]:
        """The settings' own kinds of workload, by group and kind."""
        return {
            (one.group, one.kind): template_kind(one.group, one.kind, one.plural, one.versions, one.template)
            for one in self.workload_kinds
        }

    @property
    def workloads_fail_closed(self) -> bool:
        """Whether a workload that nobody could judge is refused.

        The check of its pods stands behind all rules but deploy-permission, which asks about
        the person who applies the workload, and no one about the controller's pods. Where the
        rule is off for every environment, and on in single namespaces only, it stays advice.
        """
        rule = self.rule(DEPLOY_PERMISSION.id)
        if not isinstance(rule, DeployPermissionSettings):
            return False
        asked = bool(rule.allowed) or rule.by is PermissionSource.SUBJECT_ACCESS_REVIEW
        return asked and set(rule.action.values()) != {Action.OFF}

    def exempt(self, namespace: str) -> bool:
        """Whether the namespace is never reviewed."""
        return namespace in self.exempt_namespaces or namespace == self.server.namespace


def load_settings(path: Path) -> Settings:
    """Read and check the settings file; raises ``DocumentError`` with every problem."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DocumentError([f"settings file {path} cannot be read: {reason}"]) from None
    settings = parse_document(text, Settings, path.name, agree=_disagreements)
    return _with_paths_from(settings, path.parent)


def settings_revision(settings: Settings) -> str:
    """What tells these settings from others, in every record: 16 hexadecimal digits."""
    return hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:16]


def registries_settings(settings: Settings) -> RegistriesSettings:
    """The part of the settings that opens registries."""
    return RegistriesSettings(registries=settings.registries, deadline_seconds=settings.registry_deadline_seconds)


def refuse_unknown_rules(settings: Settings, policy_rules: Mapping[str, object], name: str) -> None:
    """Raise ``DocumentError`` where the settings name a rule that neither language has."""
    known = sorted({*(one.id for one in VALIDATORS), *policy_rules})
    named = [("rules", rule) for rule in settings.rules.model_extra or {}]
    for namespace, own in settings.namespaces.items():
        named += [(f"namespaces.{namespace}.actions", rule) for rule in own.actions]
        named += [(f"namespaces.{namespace}.denyAfter", rule) for rule in own.deny_after]
    problems = [
        f"{name}: {where}.{rule}: there is no such rule{_close(rule, known)}; the rules are {', '.join(known)}"
        for where, rule in named
        if rule not in known
    ]
    if problems:
        raise DocumentError(problems)


def _disagreements(settings: Settings) -> Iterator[Problem]:
    environments, mutators = list(settings.environments), [one.id for one in MUTATORS]
    for name, own in settings.namespaces.items():
        here = ("namespaces", name)
        if own.environment is not None and own.environment not in environments:
            yield (*here, "environment"), f"there is no environment {own.environment!r}; use {', '.join(environments)}"
        for mutator in own.modes:
            if mutator not in mutators:
                yield (*here, "modes", mutator), f"there is no such mutator; the mutators are {', '.join(mutators)}"
        yield from _default_not_allowed(here, own)
    for name, environment in settings.environments.items():
        yield from _default_not_allowed(("environments", name), environment)
    yield from _unknown_environments(settings)
    yield from _registry_disagreements(settings)
    for name in settings.gates:
        if name not in settings.environments:
            known = ", ".join(settings.environments)
            yield ("gates", name), f"there is no such environment; use {known}"
    for location, message in unknown_environments(settings.governance, settings.environments):
        yield ("governance", *location), message
    yield from _listener_disagreements(settings)


def _listener_disagreements(settings: Settings) -> Iterator[Problem]:
    if (settings.server.certificate is None) != (settings.server.key is None):
        yield ("server",), "certificate and key go together; give both, or neither to have one made at start"
    if settings.page.enabled and settings.audit.path is None and settings.audit.postgres is None:
        yield ("page",), "there are no records to show; set audit.path or audit.postgres, or enabled: false"


def _registry_disagreements(settings: Settings) -> Iterator[Problem]:
    if problem := same_names(settings.registries):
        yield ("registries",), problem
    known = ", ".join(settings.environments)
    for index, registry in enumerate(settings.registries):
        for name in registry.environments:
            if name not in settings.environments:
                yield ("registries", index, "environments"), f"there is no environment {name!r}; use {known}"


def _unknown_environments(settings: Settings) -> Iterator[Problem]:
    environments = ", ".join(["*", *settings.environments])
    for section, field, entries in (
        ("mutators", "mode", [(one.id, settings.mutator(one.id).mode) for one in MUTATORS]),
        ("rules", "action", [(rule, settings.rule(rule).action) for rule in _rules(settings)]),
        ("rules", "denyAfter", [(rule, settings.rule(rule).deny_after) for rule in _rules(settings)]),
    ):
        for identifier, by_environment in entries:
            for name in by_environment:
                if name != "*" and name not in settings.environments:
                    yield (section, identifier, field, name), f"there is no such environment; use {environments}"


def _rules(settings: Settings) -> list[str]:
    """The ids of the rules in Python, and of those that the file names besides."""
    return [*(one.id for one in VALIDATORS), *(settings.rules.model_extra or {})]


def _default_not_allowed(here: tuple[str, str], own: EnvironmentSettings | NamespaceSettings) -> Iterator[Problem]:
    if own.workloads is not None and own.default_workload is not None and own.default_workload not in own.workloads:
        yield (*here, "defaultWorkload"), f"{own.default_workload.value} is not among its workloads; add it there"


def _with_paths_from(settings: Settings, folder: Path) -> Settings:
    """Paths in the file are relative to the file."""

    def rooted(path: Path | None) -> Path | None:
        return None if path is None else folder / path

    server = settings.server
    policies = settings.policies
    found = settings.model_copy(
        update={
            "policies": policies.model_copy(
                update={name: rooted(getattr(policies, name)) for name in ("data", "directory", "bundle", "public_key")}
                | {"opa": _rooted_opa(policies.opa, folder)}
            ),
            "audit": settings.audit.model_copy(
                update={name: rooted(getattr(settings.audit, name)) for name in ("path", "signing_key")}
                | {"postgres": _rooted_postgres(settings.audit.postgres, folder)}
            ),
            "page": _rooted_page(settings.page, folder),
            "server": server.model_copy(
                update={name: rooted(getattr(server, name)) for name in ("certificate", "key", "client_ca")}
            ),
        }
    )
    found._folder = folder  # noqa: SLF001  # a private attribute of the very class
    return found


def _rooted_page(page: PageSettings, folder: Path) -> PageSettings:
    paths = {name: getattr(page, name) for name in ("certificate", "key", "token_file")}
    rooted: dict[str, Any] = {name: folder / path for name, path in paths.items() if path is not None}
    return page.model_copy(update=rooted | {"public_keys": tuple(folder / one for one in page.public_keys)})


def _rooted_postgres(postgres: PostgresSettings | None, folder: Path) -> PostgresSettings | None:
    if postgres is None:
        return None
    password = postgres.password_file
    return postgres.model_copy(
        update={"waiting": folder / postgres.waiting, "password_file": None if password is None else folder / password}
    )


def _rooted_opa(opa: OpaSettings | None, folder: Path) -> OpaSettings | None:
    if opa is None:
        return None
    paths = {name: getattr(opa, name) for name in ("ca_file", "certificate", "key", "token_file")}
    return opa.model_copy(update={name: folder / path for name, path in paths.items() if path is not None})


def _close(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
