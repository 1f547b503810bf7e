"""Which model a pod will load: name, version, source and digest, from any serving form.

Sources: KServe ``pkg/webhook/admission/pod/storage_initializer_injector.go``; vLLM
``vllm/engine/arg_utils.py``; the TGI launcher's arguments; NIM's image names.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from admission.frameworks import KSERVE_SOURCE_URI
from admission.image_reference import parse_image
from admission.pod import Container, ContainerKind, ModelPod

MODEL_KEY = "tidewaiter.dev/model"
VERSION_KEY = "tidewaiter.dev/model-version"
URI_KEY = "tidewaiter.dev/model-uri"

_VARIABLE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
_SERVERS_BY_POSITION = ("serve",)
_NAME_ARGUMENTS = ("--model", "--model-id", "--model-path")
_REVISION_ARGUMENTS = ("--revision",)
_NAME_VARIABLES = ("MODEL_ID", "NIM_MODEL_NAME")
_REVISION_VARIABLES = ("REVISION",)


@dataclass(frozen=True, slots=True)
class Load:
    """One model that one container is told to load.

    ``source`` is as written there: a hub name, a URI or a local path. ``argument``
    is the argument or variable that says so.
    """

    source: str
    version: str
    path: str
    container: str
    argument: str

    @property
    def local(self) -> bool:
        """Whether the model is read from the pod's own file system."""
        return self.source.startswith(("/", "./"))


@dataclass(frozen=True, slots=True)
class ModelReference:
    """What a pod will load. Empty strings stand for what nobody said.

    ``path`` is the field that named the model: findings point there.
    """

    name: str = ""
    version: str = ""
    uri: str = ""
    path: str = "metadata.labels"
    loads: tuple[Load, ...] = ()

    @property
    def text(self) -> str:
        """``name:version`` for people."""
        return f"{self.name or 'unnamed'}:{self.version or 'no version'}"


def model_reference(pod: ModelPod) -> ModelReference:
    """Resolve what ``pod`` will load.

    Our own labels win (annotations of the same keys carry names that no label can
    hold); then KServe's source, then what the servers' arguments say.
    """
    labels, annotations = pod.labels, pod.annotations
    loads = tuple(load for container in pod.containers for load in _loads(container))
    uri = annotations.get(URI_KEY) or annotations.get(KSERVE_SOURCE_URI) or _initializer_uri(pod)
    name = annotations.get(MODEL_KEY) or labels.get(MODEL_KEY) or ""
    version = annotations.get(VERSION_KEY) or labels.get(VERSION_KEY) or ""
    if name:
        where = "annotations" if annotations.get(MODEL_KEY) else "labels"
        return ModelReference(name, version, uri, pod.field(f"metadata.{where}[{MODEL_KEY}]"), loads)
    if uri:
        name = labels.get("serving.kserve.io/inferenceservice") or ""
        return ModelReference(name, version, uri, pod.field("metadata.annotations"), loads)
    if loads:
        first = loads[0]
        return ModelReference(first.source, version or first.version, "", first.path, loads)
    return ModelReference(version=version, path=pod.field("metadata.labels"))


def _initializer_uri(pod: ModelPod) -> str:
    for container in pod.containers:
        if container.kind is ContainerKind.INIT and container.name == "storage-initializer":
            arguments = container.spec.get("args") or ()
            return str(arguments[0]) if arguments else ""
    return ""


def _loads(container: Container) -> Iterator[Load]:
    framework = container.framework
    if framework is None or container.kind is not ContainerKind.MAIN:
        return
    if framework.name == "nim":
        yield from _nim_load(container)
        return
    if not framework.hub:
        return
    arguments = list(_arguments(container))
    # vLLM prefers the positional name to --model.
    found = _positional(arguments) or _named_argument(arguments, _NAME_ARGUMENTS)
    if found is None:
        found = _variable(container, _NAME_VARIABLES)
    if found is None:
        return
    argument, source, field = found
    revision = _named_argument(arguments, _REVISION_ARGUMENTS) or _variable(container, _REVISION_VARIABLES)
    yield Load(
        source=source,
        version=revision[1] if revision else "",
        path=f"{container.path}.{field}",
        container=container.name,
        argument=argument,
    )


def _nim_load(container: Container) -> Iterator[Load]:
    image = parse_image(container.image)
    if image is None:
        return
    named = _variable(container, _NAME_VARIABLES)
    source = named[1] if named else image.repository.removeprefix("nim/")
    yield Load(source, image.tag, f"{container.path}.image", container.name, "image")


def _arguments(container: Container) -> Iterator[tuple[str, str]]:
    """(field, word) of command and arguments, variables expanded, shell lines split."""
    for field in ("command", "args"):
        for word in container.spec.get(field) or ():
            text = _expand(container, str(word))
            if " " in text.strip() or "\n" in text:
                for part in _split(text):
                    yield field, part
            else:
                yield field, text


def _split(line: str) -> Sequence[str]:
    try:
        return shlex.split(line.replace("\\\n", " "), comments=True)
    except ValueError:
        return line.split()


def _expand(container: Container, text: str) -> str:
    """Expand ``$(NAME)`` as the kubelet does: an unknown name stays as it is."""
    if "$(" not in text:
        return text
    return _VARIABLE.sub(lambda match: container.env(match[1]) or match[0], text)


def _named_argument(arguments: Sequence[tuple[str, str]], names: Sequence[str]) -> tuple[str, str, str] | None:
    """The last one, which argparse takes where an option is given twice."""
    found = None
    for position, (field, word) in enumerate(arguments):
        name, equals, value = word.partition("=")
        if name not in names:
            continue
        if equals:
            found = name, value, field
        elif position + 1 < len(arguments):
            found = name, arguments[position + 1][1], field
    return found


def _positional(arguments: Sequence[tuple[str, str]]) -> tuple[str, str, str] | None:
    """``vllm serve NAME``: the word after ``serve``, if it is no option."""
    for (_, word), (field, following) in pairwise(arguments):
        if word in _SERVERS_BY_POSITION and not following.startswith("-"):
            return word, following, field
    return None


def _variable(container: Container, names: Sequence[str]) -> tuple[str, str, str] | None:
    for name in names:
        value = container.env(name)
        if value:
            return name, value, f"env[{name}]"
    return None
