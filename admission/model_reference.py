"""Which model a pod will load: name, version, source and digest, from any serving form.

Sources: KServe ``pkg/webhook/admission/pod/storage_initializer_injector.go``; NIM's image
names; ``admission/model_servers.py`` for the servers' arguments and variables.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from admission.command_line import (
    Command,
    Word,
    commands,
    hook_commands,
    is_unresolved,
    program,
    starts_ray_node,
    variables,
)
from admission.frameworks import KSERVE_SOURCE_URI
from admission.image_reference import parse_image
from admission.kserve_storage import INFERENCE_SERVICE_LABEL, kserve_source
from admission.long_text import shortened
from admission.model_servers import (
    FLAG_BEGINNINGS,
    PLACE_KEYS,
    UNKNOWN_SERVER,
    URI_VARIABLES,
    VALUED_OPTIONS,
    ModelServer,
    server_of_image,
    server_of_program,
    started_server,
)
from admission.pod import Container, ContainerKind, ModelPod

MODEL_KEY = "tidewaiter.dev/model"
VERSION_KEY = "tidewaiter.dev/model-version"
URI_KEY = "tidewaiter.dev/model-uri"

_MLFLOW_SCHEME = "models:/"
_URI = re.compile(r"[a-z][a-z0-9+.-]*:/.+")
_PLACE = re.compile(rf"{_URI.pattern}|/.+|[A-Za-z0-9][\w.-]*/[\w.-]+")
_SCALE = re.compile(r":\d*\.?\d+$")
_OF_NIM = re.compile(r"^/opt/nim/|(?:^|/)start[-_]server(?:\.sh)?$")
_NO_DRAFT_MODEL = "[ngram]"
_SHORTEST_ABBREVIATION = 5
_LONGEST_NAME = 1_000
_LONGEST_SOURCE = 4_096
"""Linux' PATH_MAX."""


@dataclass(frozen=True, slots=True)
class Load:
    """One model that one container is told to load.

    ``source`` is as written there: a hub name, a URI or a local path. ``argument``
    is the argument or variable that says so. ``unknown`` is a clause that says why nobody
    can tell the source; empty where it is known. ``implied``: nobody names the path, the
    server looks there by itself.
    """

    source: str
    version: str
    path: str
    container: str
    argument: str
    unknown: str = ""
    implied: bool = False
    names_model: bool = True

    @property
    def local(self) -> bool:
        """Whether the model is read from the pod's own file system."""
        return self.source.startswith(("/", ".", "file:"))


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a server, its value, and the container's field that it stands in."""

    name: str
    value: str
    field: str


@dataclass(frozen=True, slots=True)
class ModelReference:
    """What a pod will load. Empty strings stand for what nobody said.

    ``path`` is the field that named the model: findings point there. ``named_by`` says what
    named it, where that is no label or annotation for it.
    """

    name: str = ""
    version: str = ""
    uri: str = ""
    path: str = "metadata.labels"
    loads: tuple[Load, ...] = ()
    named_by: str = ""

    def __post_init__(self) -> None:
        # No registry has a name as long, and a cut one is nobody's.
        for field in ("name", "version", "uri"):
            if len(getattr(self, field)) > _LONGEST_NAME:
                object.__setattr__(self, field, shortened(getattr(self, field), _LONGEST_NAME))

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
    uri = annotations.get(URI_KEY) or kserve_source(pod)
    name = annotations.get(MODEL_KEY) or labels.get(MODEL_KEY) or ""
    version = annotations.get(VERSION_KEY) or labels.get(VERSION_KEY) or ""
    if name:
        where = "annotations" if annotations.get(MODEL_KEY) else "labels"
        return ModelReference(name, version, uri, f"metadata.{where}[{MODEL_KEY}]", loads)
    if uri:
        name = labels.get(INFERENCE_SERVICE_LABEL) or ""
        key = next((one for one in (URI_KEY, KSERVE_SOURCE_URI) if annotations.get(one) == uri), "")
        path = f"metadata.annotations[{key}]" if key else "spec"
        return ModelReference(name, version, uri, path, loads, f"label {INFERENCE_SERVICE_LABEL}" if name else "")
    naming = [load for load in loads if load.names_model and not load.unknown]
    if naming:
        name, found = _named_by(naming[0])
        return ModelReference(
            name,
            version or found,
            "",
            naming[0].path,
            loads,
            f"{naming[0].argument} of container {naming[0].container}",
        )
    return ModelReference(version=version, path="metadata.labels", loads=loads)


def _named_by(load: Load) -> tuple[str, str]:
    """Name and version; MLflow's ``models:/name/version`` has both."""
    if load.source.startswith(_MLFLOW_SCHEME):
        name, _, version = load.source.removeprefix(_MLFLOW_SCHEME).strip("/").rpartition("/")
        if name:
            return name, version
    return load.source, load.version


def _loads(container: Container) -> Iterator[Load]:
    """What one container loads. Init containers serve nothing, unless they go on running."""
    if container.kind is ContainerKind.INIT and not container.sidecar:
        return
    known = variables(container)
    started = list(commands(container))
    yield from _hook_loads(container, known)
    found = [load for command in started for load in _command_loads(container, command, known)]
    if container.framework is not None and container.framework.name == "nim":
        yield from found or _nim_loads(container, started, known)
        return
    server = server_of_image(container.framework, container.image)
    if server is not None and not any(_start(command) for command in started):
        found += _image_loads(container, server, started, known)
    yield from found
    if server is None and not found:
        yield from _uri_variables(container, known)
        if container.accelerators:
            words = tuple(word for command in started for word in command)
            yield from _server_loads(container, UNKNOWN_SERVER, words, known)


def _image_loads(
    container: Container, server: ModelServer, started: list[Command], known: dict[str, str | None]
) -> Iterator[Load]:
    """What a server loads that its image starts, or that a program does which nobody knows."""
    if not container.spec.get("command"):
        yield from _server_loads(container, server, started[0] if started and server.entry_point else (), known)
    elif not starts_ray_node(started):
        words = tuple(word for command in started for word in command)
        yield from _server_loads(container, replace(server, positional=False), words, known)


def _hook_loads(container: Container, known: dict[str, str | None]) -> Iterator[Load]:
    """What a server loads that a hook or a probe starts; most only ask whether one runs."""
    for command in hook_commands(container):
        start = started_server([word.text for word in command])
        if start is not None:
            server, position = start
            for load in _server_loads(container, server, command[position + 1 :], known):
                # The fields of a server that is told nothing are those of the container's own process.
                path = f"{container.path}.{command[0].field}"
                yield replace(load, path=path, implied=False, names_model=False)


def _nim_loads(container: Container, started: list[Command], known: dict[str, str | None]) -> Iterator[Load]:
    """What NIM's own program loads, and that nobody can tell where another one is started."""
    yield from _nim_load(container, known)
    words = [word for command in started for word in command]
    if words and not any(_OF_NIM.search(word.text) for word in words):
        yield _unknown(container, words[0].text, "it is no program of NIM's", words[0].field)


def _nim_load(container: Container, known: dict[str, str | None]) -> Iterator[Load]:
    if "NIM_MODEL_NAME" in known:
        yield _load(container, "NIM_MODEL_NAME", known["NIM_MODEL_NAME"] or "", "env[NIM_MODEL_NAME]")
        return
    image = parse_image(container.image)
    if image is not None:
        source = image.repository.removeprefix("nim/")
        yield Load(source, image.tag, f"{container.path}.image", container.name, "image")


def _command_loads(container: Container, command: Command, known: dict[str, str | None]) -> Iterator[Load]:
    start = _start(command)
    if start is not None:
        server, position = start
        yield from _server_loads(container, server, command[position + 1 :], known)
        return
    for word in command:
        value = word.text.partition("=")[2] if word.text.startswith("-") else word.text
        if value.startswith(_MLFLOW_SCHEME):
            yield _load(container, word.text.partition("=")[0], value, word.field)


def redirecting_options(container: Container) -> Iterator[Option]:
    """The options of the container's server that change which code or revision is loaded."""
    for command in commands(container):
        start = _start(command)
        server, position = start if start is not None else (server_of_image(container.framework, container.image), -1)
        if server is not None:
            for name, word in _option_values(server, command[position + 1 :], server.redirecting):
                yield Option(name, word.text, word.field)


def _start(command: Command) -> tuple[ModelServer, int] | None:
    for position, word in enumerate(command):
        server = server_of_program(program(word.text))
        if server is not None:
            return server, position
    return None


def _server_loads(
    container: Container, server: ModelServer, words: Command, known: dict[str, str | None]
) -> Iterator[Load]:
    revision = _revision(server, words, known)
    found = list(_positional(server, words))
    found += [(name, word, word.field) for name, word in _option_values(server, words, server.options)]
    found += [
        (name, Word(word.field, value), word.field)
        for name, word in _option_values(server, words, server.uris)
        for value in [word.text.partition("=")[2] or word.text]
        if _PLACE.fullmatch(value)
    ]
    if not found or len(server.options) != 1:
        # One option and its variable say the same thing, and the option wins.
        found += [(name, Word("env", value), field) for name, value, field in _variable_values(server.variables, known)]
    files = [(name, word) for name, word in _option_values(server, words, server.files)]
    for name, word, field in found:
        yield _load(container, name, word.text, field, revision, names_model=server.names_model)
    yield from _further_loads(container, server, words, known, revision)
    for name, word in files:
        yield _unknown(container, name, f"file {word.text!r} may name a model", word.field)
    if not found and not files:
        yield from _unsaid(container, server)


def _variable_values(names: Iterable[str], known: dict[str, str | None]) -> list[tuple[str, str, str]]:
    """Name, value and field of the variables that are set; a reference's value is empty."""
    return [(name, known[name] or "", f"env[{name}]") for name in names if name in known and known[name] != ""]


def _further_loads(
    container: Container, server: ModelServer, words: Command, known: dict[str, str | None], revision: str
) -> Iterator[Load]:
    """Adapters, draft models and tokenizers: they name no model, and are loaded like one."""
    given = [(name, word.text, word.field) for name, word in _option_values(server, words, server.further)]
    given += _variable_values(server.further_variables, known)
    for name, value, field in given:
        places = _places(value)
        if places is None:
            yield _unknown(container, name, f"{value!r} is no JSON that can be read", field)
            continue
        for place in places:
            yield _load(container, name, place, field, revision, names_model=False)


def _places(value: str) -> list[str] | None:
    """The places that a value names: plain, with commas, ``name=place``, ``place:scale`` or in JSON; None if broken."""
    if value == _NO_DRAFT_MODEL:
        return []
    if value.lstrip().startswith(("{", "[")):
        try:
            entries = json.loads(value)
        except (ValueError, RecursionError):
            return None
        entries = entries if isinstance(entries, list) else [entries]
        return [str(entry[key]) for entry in entries if isinstance(entry, dict) for key in PLACE_KEYS if entry.get(key)]
    if not value or _URI.fullmatch(value):
        return [value]
    return [_SCALE.sub("", part.rpartition("=")[2]) for part in value.split(",") if part]


def _unsaid(container: Container, server: ModelServer) -> Iterator[Load]:
    if server.variables and container.spec.get("envFrom"):
        yield _unknown(container, "envFrom", f"it may set {' or '.join(server.variables)}", "envFrom")
    elif server.named_only:
        yield _unknown(container, server.name, "no argument and no variable names a model", "args")
    elif container.framework is not None:
        source = container.framework.model_path
        path = f"{container.path}.volumeMounts"
        yield Load(source, "", path, container.name, server.name, implied=True, names_model=False)


def _uri_variables(container: Container, known: dict[str, str | None]) -> Iterator[Load]:
    for name in URI_VARIABLES:
        value = known.get(name) or ""
        if _URI.fullmatch(value):
            yield _load(container, name, value, f"env[{name}]")


def _load(
    container: Container, argument: str, source: str, field: str, revision: str = "", *, names_model: bool = True
) -> Load:
    path = f"{container.path}.{field}"
    unknown = ""
    if not source:
        unknown = "its value is a reference to another object"
    elif len(source) > _LONGEST_SOURCE:
        source, unknown = "", f"a value of {len(source)} characters is no path and no name"
    elif is_unresolved(source):
        unknown = f"{source!r} is set elsewhere"
    return Load(source, revision, path, container.name, argument, unknown, names_model=names_model)


def _unknown(container: Container, argument: str, unknown: str, field: str) -> Load:
    return Load("", "", f"{container.path}.{field}", container.name, argument, unknown)


def _revision(server: ModelServer, words: Command, known: dict[str, str | None]) -> str:
    """The last one, which argparse takes where an option is given twice."""
    given = [word.text for _, word in _option_values(server, words, server.revisions)]
    if given:
        return given[-1]
    # An unknown value is none that could be approved.
    return next((known[name] or f"$({name})" for name in server.revision_variables if name in known), "")


def _option_values(server: ModelServer, words: Command, names: tuple[str, ...]) -> Iterator[tuple[str, Word]]:
    """Every value that is given to options of these names, since which one counts differs."""
    if not names:
        return
    for position, word in enumerate(words):
        if not word.text.startswith("-"):
            continue
        written, equals, value = word.text.partition("=")
        name = _option(server, written, names)
        if name is None:
            continue
        if equals:
            yield name, Word(word.field, value)
            continue
        for index in range(position + 1, len(words)):
            following = words[index]
            if following.text.startswith("-"):
                break
            yield name, following
            if name not in server.lists:
                break


def _option(server: ModelServer, written: str, names: tuple[str, ...]) -> str | None:
    """The option that a word writes, with underscores or abbreviated where the server's parser takes it."""
    dashed = written.replace("_", "-") if written.startswith("--") else written
    if dashed in names:
        return dashed
    if any(dashed in others for others in (server.options, server.further, server.revisions, server.redirecting)):
        # An abbreviation that is another option's whole name is that option.
        return None
    if server.abbreviates and dashed.startswith("--") and len(dashed) >= _SHORTEST_ABBREVIATION:
        return next((name for name in names if name.startswith(dashed)), None)
    return None


def _positional(server: ModelServer, words: Command) -> Iterator[tuple[str, Word, str]]:
    """The words that belong to no option: the model, and what would make the server refuse to start."""
    if not server.positional:
        return
    argument, takes, only_positional = server.programs[0], 0, False
    rest = words
    if words and words[0].text in server.subcommands:
        argument, rest = words[0].text, words[1:]
    elif server.subcommands and not server.entry_point:
        return
    for word in rest:
        if word.text == "--":
            only_positional = True
        elif word.text.startswith("-") and not only_positional:
            takes = _takes(server, word.text)
        elif takes and not only_positional:
            takes -= 1
        else:
            yield argument, word, word.field


def _takes(server: ModelServer, option: str) -> int:
    """How many words after an option are its own."""
    name, equals, _ = option.partition("=")
    dashed = name.replace("_", "-")
    if equals or (dashed.startswith(FLAG_BEGINNINGS) and dashed not in VALUED_OPTIONS):
        return 0
    return 1_000 if dashed in server.lists else 1
