"""The words that a container's process starts with, as the kubelet and a shell make them.

``$(NAME)`` is the kubelet's and is expanded in arguments and in the values of variables;
``$NAME`` and ``${NAME}`` are a shell's and are expanded only in a line after ``sh -c``.
What refers to a ConfigMap, a Secret or a running command cannot be known here: it stays
as it was written, and ``is_unresolved`` says so. So does what would make a container's text
longer than ``Container.expansion`` allows: twenty variables that name each other twice are
a kilobyte, and make a gigabyte.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # A pod is recognised by what its containers start.
    from admission.pod import Container

_KUBELET = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
_SHELL = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?::?-([^{}$`]*))?\})")
_ASSIGNED = re.compile(r"(?<![^\s;&|(])([A-Za-z_][A-Za-z0-9_]*)=|\bfor(?=\s+([A-Za-z_][A-Za-z0-9_]*))")
_READ = re.compile(r"\bread\b")
_SHELLS = frozenset({"sh", "bash", "ash", "dash", "zsh", "ksh"})
_LINE_OPTION = re.compile(r"[-+][a-zA-Z]*c[a-zA-Z]*")
_PUNCTUATION = "();<>|&\n"
_REDIRECTION = re.compile(r"&?[<>]{1,3}[&|]?")
_PREPARING = frozenset({"ulimit", "export", "set", "cd", "echo", "sleep", "wait", "trap", "mkdir", "tail"})
_DESCRIPTORS = ("0", "1", "2")
_DEEPEST = 4
_SHELL_OPTIONS = 6
_LONGEST_ARGUMENT = 128 * 1024
"""Linux takes none that is longer (MAX_ARG_STRLEN in ``include/uapi/linux/binfmts.h``, with pages of
4 KiB), and ``shlex`` takes a time that grows with its square: such a line stays unresolved."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word, and the field of the container that it comes from: ``command`` or ``args``."""

    field: str
    text: str


Command = tuple[Word, ...]


class _Allowance:
    """How many characters references may still bring in."""

    def __init__(self, characters: int) -> None:
        self._left = characters

    def covers(self, value: str) -> bool:
        """Take what ``value`` needs; False, and nothing taken, where that is more than is left."""
        if len(value) > self._left:
            return False
        self._left -= len(value)
        return True


def is_unresolved(text: str) -> bool:
    """Whether a value holds something that only the kubelet or a shell can know."""
    return "$" in text or "`" in text


def program(word: str) -> str:
    """The name of the program that a word calls, without its folder."""
    return word.rsplit("/", 1)[-1]


def variables(container: Container) -> dict[str, str | None]:
    """The container's variables; None for one whose value is a reference. The last one counts."""
    return _variables(container, _Allowance(container.expansion))


def _variables(container: Container, allowance: _Allowance) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for entry in container.spec.get("env") or ():
        name, value = entry.get("name") or "", entry.get("value")
        # Without a value and a reference it is empty.
        found[name] = None if entry.get("valueFrom") else _kubelet_expanded(str(value or ""), found, allowance)
    return found


def commands(container: Container) -> tuple[Command, ...]:
    """Every command that the container's own fields start; a shell's line may hold several."""
    allowance = _Allowance(container.expansion)
    known = _variables(container, allowance)
    words = [
        Word(field, _kubelet_expanded(str(word), known, allowance))
        for field in ("command", "args")
        for word in container.spec.get(field) or ()
    ]
    found = list(_commands(words, known, allowance, 0))
    if words and not container.spec.get("command") and len(words[0].text.split()) > 1:
        # An image's own entry point may be a shell.
        found += _line(words[0], known, allowance, 0)
    return tuple(found)


_HOOKS = (
    ("lifecycle", "postStart"), ("lifecycle", "preStop"), ("startupProbe",), ("readinessProbe",), ("livenessProbe",),
)  # fmt: skip


def hook_commands(container: Container) -> tuple[Command, ...]:
    """Every command that the kubelet runs in the container beside its process: in hooks and probes.

    Its words belong to the hook's field. The kubelet expands nothing there; a shell does.
    """
    if not any(path[0] in container.spec for path in _HOOKS):
        return ()
    allowance = _Allowance(container.expansion)
    known = _variables(container, allowance)
    found: list[Command] = []
    for path in _HOOKS:
        handler: Mapping[str, Any] = container.spec
        for key in (*path, "exec"):
            handler = handler.get(key) or {}
        field = ".".join((*path, "exec.command"))
        words = [Word(field, str(word)) for word in handler.get("command") or ()]
        found += _commands(words, known, allowance, 0)
    return tuple(found)


def starts_ray_node(started: Sequence[Command]) -> bool:
    """Whether all that is started is a node of a Ray cluster, which loads what its head says.

    ``ray job submit`` runs whatever follows it.
    """
    nodes = [command for command in started if [program(word.text) for word in command[:2]] == ["ray", "start"]]
    others = [command for command in started if command not in nodes]
    return bool(nodes) and all(program(command[0].text) in _PREPARING for command in others)


def _kubelet_expanded(text: str, known: Mapping[str, str | None], allowance: _Allowance) -> str:
    """An unknown name stays as it is; ``$$`` is an escaped ``$``."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        found = known.get(match[1])
        return match[0] if found is None or not allowance.covers(found) else found

    return _KUBELET.sub(value, text) if "$" in text else text


def _commands(
    words: Sequence[Word], known: Mapping[str, str | None], allowance: _Allowance, depth: int
) -> Iterator[Command]:
    for position, word in enumerate(words):
        if program(word.text) in _SHELLS and depth < _DEEPEST:
            line = _line_of(words[position + 1 : position + 2 + 2 * _SHELL_OPTIONS])
            if line is not None:
                yield from _line(line, known, allowance, depth)
                return
    if words:
        yield tuple(words)


def _line_of(words: Sequence[Word]) -> Word | None:
    """The line of ``sh -c LINE``; None where the shell runs a script or reads its input."""
    for position, word in enumerate(words[:_SHELL_OPTIONS]):
        if _LINE_OPTION.fullmatch(word.text):
            return _first_operand(words[position + 1 :])
    return None


def _first_operand(words: Sequence[Word]) -> Word | None:
    """The first word that is no option: a shell reads its other options before the line."""
    rest = iter(words)
    for word in rest:
        if word.text == "--":
            return next(rest, None)
        if not word.text.startswith(("-", "+")):
            return word
        if word.text[-1] in "oO":
            next(rest, None)
    return None


def _line(line: Word, known: Mapping[str, str | None], allowance: _Allowance, depth: int) -> Iterator[Command]:
    if len(line.text) >= _LONGEST_ARGUMENT:
        yield (Word(line.field, "$LINE"),)
        return
    command: list[Word] = []
    redirected = False
    for token in _tokens(_shell_expanded(line.text, known, allowance)):
        if not token or any(character not in _PUNCTUATION for character in token):
            if not redirected:
                command.append(Word(line.field, token))
            redirected = False
        elif _REDIRECTION.fullmatch(token):
            redirected = True
            if command and command[-1].text in _DESCRIPTORS:
                command.pop()
        else:
            yield from _commands(command, known, allowance, depth + 1)
            command, redirected = [], False
    yield from _commands(command, known, allowance, depth + 1)


def _shell_expanded(line: str, known: Mapping[str, str | None], allowance: _Allowance) -> str:
    """Expand what the line does not set itself."""
    if "$" not in line or _READ.search(line):
        return line
    own = {match[1] or match[2] for match in _ASSIGNED.finditer(line)}

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        found = known.get(name)
        if found is None or name in own or not allowance.covers(found):
            return match[0]
        return found or match[3] or ""

    return _SHELL.sub(value, line)


def _tokens(line: str) -> list[str]:
    lexer = shlex.shlex(line.replace("\\\n", " "), posix=True, punctuation_chars=_PUNCTUATION)
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    try:
        return list(lexer)
    except ValueError:
        # An open quote: the shell refuses the line, or reads it otherwise than we would.
        return re.split(r"\s+", line.strip())
