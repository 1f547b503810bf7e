"""Where a server is told to take its model, or its code, from elsewhere than its arguments say.

The model's name may be the approved one while the hub is another's, or a file maps that name
to a folder. Code that is loaded into a server decides what the server loads; what lies in the
image is the image's own, so that only what comes from a volume, or a folder that anybody may
write to, is of interest here.

Sources: ``huggingface_hub/constants.py``; vLLM's and SGLang's ``envs.py``; llama.cpp's
``common/arg.cpp``; NIM's "Configuring a NIM"; ld.so(8), python(1), bash(1), openssl-env(7),
CUDA's environment variables. Where a store of objects is (``AWS_ENDPOINT_URL``) is not among
them: the platform's own is named so as often.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

from admission.command_line import variables
from admission.model_reference import Option, redirecting_options
from admission.model_volumes import ModelVolumes
from admission.pod import Container

_HUBS = (
    "HF_ENDPOINT",
    "HUGGINGFACE_CO_RESOLVE_ENDPOINT",
    "MODEL_ENDPOINT",
    "VLLM_USE_MODELSCOPE",
    "SGLANG_USE_MODELSCOPE",
    "LMDEPLOY_USE_MODELSCOPE",
    "NIM_REPOSITORY_OVERRIDE",
)
_OTHER_MODELS = ("VLLM_MODEL_REDIRECT_PATH", "NIM_FT_MODEL", "NIM_PEFT_SOURCE")
_CODE = (
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "LD_AUDIT",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    "PYTHONPLATLIBDIR",
    "PYTHONPYCACHEPREFIX",
    "PYTHONBREAKPOINT",
    "PATH",
    "BASH_ENV",
    "GCONV_PATH",
    "OPENSSL_CONF",
    "OPENSSL_MODULES",
    "CUDA_INJECTION64_PATH",
)
_OFF = ("", "0", "false", "no", "off", "https://huggingface.co", "https://huggingface.co/")
_WRITABLE = ("/dev", "/proc", "/tmp", "/var/tmp", "/run", "/var/run", "/sys")  # noqa: S108  # nothing is written there
_CODE_OPTIONS = ("--tool-parser-plugin", "--reasoning-parser-plugin")
_REVISION_OPTIONS = ("--code-revision", "--tokenizer-revision")


@dataclass(frozen=True, slots=True)
class Redirection:
    """One variable or option. ``path`` is its field, ``found`` a clause, ``remedy`` what to do."""

    path: str
    found: str
    remedy: str


def redirections(
    container: Container, volumes: ModelVolumes, *, from_hub: bool, revision: str
) -> Iterator[Redirection]:
    """What redirects the server in ``container``.

    ``from_hub``: it looks a name up, so that it matters where. ``revision`` is the approved one.
    """
    known = variables(container)
    names = (*_OTHER_MODELS, *(_HUBS if from_hub else ()))
    for name in names:
        if name not in known:
            continue
        value = known[name]
        if value is None or value.lower() not in _OFF:
            yield _of_variable(container, name, "the model may be loaded from elsewhere", value)
    for name in _CODE:
        if name not in known:
            continue
        value = known[name]
        if value is None or any(_foreign(part, name, container, volumes) for part in _parts(value)):
            yield _of_variable(container, name, "other code than the image's may run", value)
    yield from _of_sources(container, (*names, *_CODE), known)
    for option in redirecting_options(container):
        yield from _of_option(option, container, volumes, from_hub=from_hub, revision=revision)


def _of_variable(container: Container, name: str, consequence: str, value: str | None) -> Redirection:
    shown = "takes its value from another object" if value is None else f"is {value!r}"
    return Redirection(f"{container.path}.env[{name}]", f"{name} {shown}, so that {consequence}", "remove it")


def _of_sources(container: Container, names: tuple[str, ...], known: dict[str, str | None]) -> Iterator[Redirection]:
    """Variables from a ConfigMap or Secret; those of ``env`` win over them, and a prefix narrows them."""
    for source in container.spec.get("envFrom") or ():
        prefix = source.get("prefix") or ""
        possible = [name for name in names if name not in known and name.startswith(prefix)]
        if possible:
            yield Redirection(
                f"{container.path}.envFrom",
                f"nobody can tell what envFrom sets: {possible[0]} among others would redirect the server",
                "take single variables under env (valueFrom), or give envFrom a prefix of your own",
            )
            return


def _of_option(
    option: Option, container: Container, volumes: ModelVolumes, *, from_hub: bool, revision: str
) -> Iterator[Redirection]:
    path = f"{container.path}.{option.field}"
    if option.name in _REVISION_OPTIONS:
        if from_hub and option.value != revision:
            found = f"{option.name} is {option.value!r}, so that code or a tokenizer of another revision is loaded"
            yield Redirection(path, found, f"set it to {revision}" if revision else "leave it out")
    elif option.name in _CODE_OPTIONS:
        if _foreign(option.value, "", container, volumes):
            yield Redirection(
                path,
                f"{option.name} loads code from {option.value!r}, which is not the image's",
                "have it built into the image",
            )
    elif "auto_map" in option.value:
        yield Redirection(path, f"{option.name} names other code for the model (auto_map)", "leave auto_map out")


def _parts(value: str) -> list[str]:
    return [part for part in value.replace(" ", ":").split(":") if part]


def _foreign(part: str, name: str, container: Container, volumes: ModelVolumes) -> bool:
    """Whether a place is not in the container's own image, where nobody writes."""
    if part in (f"$({name})", f"${{{name}}}", f"${name}"):
        # Neither the kubelet nor the loader expands it, and no folder is named so.
        return False
    whole = posixpath.normpath(part)
    return (
        not whole.startswith("/")
        or any(whole == one or whole.startswith(f"{one}/") for one in _WRITABLE)
        or volumes.origin(container, whole).volume is not None
    )
