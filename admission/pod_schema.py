"""The shape of the pod fields that we read: checked once, so that nothing below must.

Objects that break the schema reach mutating webhooks, and people hand anything to
``tidewaiter review``. Fields that are not named here are not looked at. Null stands
for "absent", as in the API server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

_LOOSE = ConfigDict(extra="ignore", strict=True)
_Text = str | None
_Map = dict[str, Any] | None
_Words = list[str] | None
_Strings = dict[str, str] | None
_Quantity = str | int | float


class MalformedObjectError(Exception):
    """A field of the object has the wrong shape; the text says where and what."""


@with_config(_LOOSE)
class _Env(TypedDict, total=False):
    name: _Text
    value: _Text
    valueFrom: _Map


@with_config(_LOOSE)
class _Mount(TypedDict, total=False):
    name: _Text
    mountPath: _Text


@with_config(_LOOSE)
class _Resources(TypedDict, total=False):
    requests: dict[str, _Quantity] | None
    limits: dict[str, _Quantity] | None
    claims: list[dict[str, Any]] | None


@with_config(_LOOSE)
class _Capabilities(TypedDict, total=False):
    add: _Words
    drop: _Words


@with_config(_LOOSE)
class _SecurityContext(TypedDict, total=False):
    runAsUser: int | None
    runAsNonRoot: bool | None
    privileged: bool | None
    allowPrivilegeEscalation: bool | None
    readOnlyRootFilesystem: bool | None
    procMount: _Text
    capabilities: _Capabilities | None
    seccompProfile: _Map
    appArmorProfile: _Map
    seLinuxOptions: _Map
    windowsOptions: _Map


@with_config(_LOOSE)
class _Port(TypedDict, total=False):
    containerPort: int | None
    hostPort: int | None


@with_config(_LOOSE)
class _Lifecycle(TypedDict, total=False):
    postStart: _Map
    preStop: _Map


@with_config(_LOOSE)
class _Container(TypedDict, total=False):
    name: _Text
    image: _Text
    command: _Words
    args: _Words
    env: list[_Env] | None
    ports: list[_Port] | None
    volumeMounts: list[_Mount] | None
    resources: _Resources | None
    securityContext: _SecurityContext | None
    restartPolicy: _Text
    livenessProbe: _Map
    readinessProbe: _Map
    startupProbe: _Map
    lifecycle: _Lifecycle | None


@with_config(_LOOSE)
class _Toleration(TypedDict, total=False):
    key: _Text
    operator: _Text
    value: _Text
    effect: _Text


@with_config(_LOOSE)
class _Requirement(TypedDict, total=False):
    key: _Text
    operator: _Text
    values: _Words


@with_config(_LOOSE)
class _Term(TypedDict, total=False):
    matchExpressions: list[_Requirement] | None
    matchFields: list[_Requirement] | None


@with_config(_LOOSE)
class _NodeSelector(TypedDict, total=False):
    nodeSelectorTerms: list[_Term] | None


@with_config(_LOOSE)
class _NodeAffinity(TypedDict, total=False):
    requiredDuringSchedulingIgnoredDuringExecution: _NodeSelector | None


@with_config(_LOOSE)
class _Affinity(TypedDict, total=False):
    nodeAffinity: _NodeAffinity | None


@with_config(_LOOSE)
class _Sysctl(TypedDict, total=False):
    name: _Text
    value: _Text


@with_config(_LOOSE)
class _PodSecurityContext(TypedDict, total=False):
    runAsUser: int | None
    runAsNonRoot: bool | None
    fsGroup: int | None
    fsGroupChangePolicy: _Text
    seccompProfile: _Map
    appArmorProfile: _Map
    seLinuxOptions: _Map
    windowsOptions: _Map
    sysctls: list[_Sysctl] | None


@with_config(_LOOSE)
class _Volume(TypedDict, total=False):
    name: _Text
    hostPath: _Map
    persistentVolumeClaim: _Map
    projected: _Map


@with_config(_LOOSE)
class _Claim(TypedDict, total=False):
    name: _Text
    resourceClaimName: _Text
    resourceClaimTemplateName: _Text


@with_config(_LOOSE)
class _Spec(TypedDict, total=False):
    initContainers: list[_Container] | None
    containers: list[_Container] | None
    ephemeralContainers: list[_Container] | None
    volumes: list[_Volume] | None
    tolerations: list[_Toleration] | None
    affinity: _Affinity | None
    nodeSelector: _Strings
    nodeName: _Text
    priorityClassName: _Text
    serviceAccountName: _Text
    automountServiceAccountToken: bool | None
    resourceClaims: list[_Claim] | None
    securityContext: _PodSecurityContext | None
    hostNetwork: bool | None
    hostPID: bool | None
    hostIPC: bool | None
    os: _Map


@with_config(_LOOSE)
class _Owner(TypedDict, total=False):
    kind: _Text
    name: _Text
    uid: _Text
    controller: bool | None


@with_config(_LOOSE)
class _Metadata(TypedDict, total=False):
    name: _Text
    generateName: _Text
    namespace: _Text
    labels: _Strings
    annotations: _Strings
    ownerReferences: list[_Owner] | None


@with_config(_LOOSE)
class _Pod(TypedDict, total=False):
    metadata: _Metadata | None
    spec: Annotated[_Spec | None, Field()]


_ADAPTER: TypeAdapter[Any] = TypeAdapter(_Pod)


def check_shape(pod: object, prefix: str = "", authored: Callable[[str], str] = str) -> None:
    """Raise ``MalformedObjectError`` where a field that we read has a wrong type.

    ``authored`` turns a path of the pod into one of the author's object, and ``prefix``
    stands before it.
    """
    try:
        _ADAPTER.validate_python(pod)
    except ValidationError as error:
        raise MalformedObjectError(_sentence(error, prefix, authored)) from None


def _sentence(error: ValidationError, prefix: str, authored: Callable[[str], str]) -> str:
    first = error.errors(include_url=False)[0]
    where, explained, in_map = "", ["pod"], False
    for part in first["loc"]:
        if isinstance(part, int) or in_map:
            where += f"[{part}]"
        else:
            where += f".{part}" if where else part
            explained.append(part)
        if in_map:
            break  # what follows is pydantic's name for one of several types
        in_map = part in _MAPS
    where = ".".join(part for part in (prefix, authored(where)) if part)
    found = type(first["input"]).__name__ if first["input"] is not None else "null"
    shown = _JSON_NAMES.get(found, found)
    return f"{where or 'object'}: {first['msg']}, found {shown}; see `kubectl explain {'.'.join(explained)}`"


_MAPS = frozenset({"labels", "annotations", "nodeSelector", "requests", "limits"})
"""Fields whose keys are the author's."""

_JSON_NAMES = {
    "dict": "an object",
    "list": "a list",
    "str": "a string",
    "int": "a number",
    "float": "a number",
    "bool": "a boolean",
}
