"""How each server is told which model to load, as data.

One row per server: the programs that start it, and its options and variables that name
a model, a revision, or a file that may name one. Option names are compared with dashes
for underscores, since most of these parsers take both.

What it loads beside its model counts too: adapters, draft models, projectors, tokenizers
(which may bring code).

Sources, read for the options named here and not for every option that exists: vLLM
``vllm/entrypoints/openai/cli_args.py``, ``cli/serve.py`` and ``utils/argparse_utils.py`` (a
FlexibleArgumentParser keeps argparse's abbreviations; which of a positional model and
``--model`` counts has changed more than once, so both are looked at); TensorRT-LLM
``tensorrt_llm/commands/serve.py``; Triton ``src/command_line_parser.cc`` (getopt_long, which
takes abbreviations); KServe ``huggingfaceserver/__main__.py``; the TGI launcher's arguments;
SGLang's and llama.cpp's options from their documentation and uses, not from the parsers
themselves; TensorFlow Serving's ``tf_serving_entrypoint.sh`` as images show it. The rows of
TEI, MLServer, TorchServe, Ollama and MLflow rest on their documentation. A value that is
read wrongly is a finding too many, or one that says that nobody can tell: where options
differ between versions, all are looked at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from admission.frameworks import Framework


@dataclass(frozen=True, slots=True)
class ModelServer:
    """One server.

    ``name`` is that of its row in ``FRAMEWORKS``, where it has one. ``programs`` are words
    of a command line that start it; ``subcommands`` may follow, and with ``positional``
    the first word that belongs to no option is the model. ``lists`` are options that take
    several words. ``named_only``: without a model it loads one that nobody named.
    ``entry_point``: the image starts it, so that arguments alone are its own. ``uris`` are
    options whose values count where they hold a URI, a path or a hub's name. ``names_model``: what it loads is a
    model's name, and not the folder of several. ``further`` and ``further_variables`` name what is
    loaded beside the model: a place, several with commas, ``name=place``, or JSON that names it.
    ``redirecting`` are options that change which code or revision is loaded.
    """

    name: str
    programs: tuple[str, ...]
    options: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    revisions: tuple[str, ...] = ()
    revision_variables: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    subcommands: tuple[str, ...] = ()
    positional: bool = False
    lists: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    further: tuple[str, ...] = ()
    further_variables: tuple[str, ...] = ()
    redirecting: tuple[str, ...] = ()
    abbreviates: bool = False
    named_only: bool = False
    entry_point: bool = True
    names_model: bool = True


_VLLM_REDIRECTING = (
    "--code-revision",
    "--tokenizer-revision",
    "--tool-parser-plugin",
    "--reasoning-parser-plugin",
    "--hf-overrides",
)

MODEL_SERVERS: tuple[ModelServer, ...] = (
    ModelServer(
        name="vllm",
        programs=(
            "vllm",
            "vllm.entrypoints.cli.main",
            "vllm.entrypoints.openai.api_server",
            "vllm.entrypoints.api_server",
        ),
        subcommands=("serve",),
        positional=True,
        options=("--model",),
        revisions=("--revision",),
        files=("--config",),
        further=(
            "--lora-modules",
            "--prompt-adapters",
            "--tokenizer",
            "--speculative-model",
            "--speculative-config",
            "--speculative-config.model",
            "--hf-config-path",
        ),
        redirecting=_VLLM_REDIRECTING,
        lists=("--served-model-name", "--lora-modules", "--prompt-adapters", "--logits-processors", "--api-key"),
        abbreviates=True,
        named_only=True,
    ),
    ModelServer(
        name="sglang",
        programs=("sglang", "sglang.launch_server"),
        options=("--model-path", "--model"),
        further=(
            "--lora-paths",
            "--tokenizer-path",
            "--speculative-draft-model-path",
            "--speculative-draft-model",
        ),
        lists=("--lora-paths",),
        revisions=("--revision",),
        files=("--config",),
        abbreviates=True,
        named_only=True,
    ),
    ModelServer(
        name="text-generation-inference",
        programs=("text-generation-launcher", "text-generation-server", "text-embeddings-router"),
        options=("--model-id",),
        variables=("MODEL_ID",),
        further=("--lora-adapters",),
        further_variables=("LORA_ADAPTERS",),
        revisions=("--revision",),
        revision_variables=("REVISION",),
        named_only=True,
    ),
    ModelServer(
        name="huggingfaceserver",
        programs=("huggingfaceserver",),
        options=("--model-id", "--model-dir"),
        # It takes vLLM's engine options too.
        further=(
            "--tokenizer",
            "--speculative-model",
            "--speculative-config",
            "--speculative-config.model",
            "--hf-config-path",
        ),
        redirecting=_VLLM_REDIRECTING,
        revisions=("--model-revision",),
        abbreviates=True,
    ),
    ModelServer(
        name="triton",
        programs=("tritonserver",),
        options=("--model-repository", "--model-store"),
        abbreviates=True,
        names_model=False,
    ),
    ModelServer(
        name="tensorflow-serving",
        programs=("tensorflow_model_server", "tf_serving_entrypoint.sh"),
        options=("--model-base-path",),
        variables=("MODEL_BASE_PATH",),
        files=("--model-config-file",),
        names_model=False,
    ),
    ModelServer(
        name="mlserver",
        programs=("mlserver",),
        subcommands=("start",),
        positional=True,
        variables=("MLSERVER_MODEL_URI", "MLSERVER_MODELS_DIR"),
        names_model=False,
    ),
    ModelServer(
        name="torchserve",
        programs=("torchserve",),
        options=("--model-store",),
        uris=("--models",),
        files=("--ts-config",),
        lists=("--models",),
        names_model=False,
    ),
    ModelServer(
        name="llama.cpp",
        programs=("llama-server", "llama-cpp-server", "llama_cpp.server"),
        options=(
            "-m",
            "--model",
            "-mu",
            "--model-url",
            "-hf",
            "-hfr",
            "--hf-repo",
            "-dr",
            "--docker-repo",
            "--models-dir",
        ),
        variables=(
            "LLAMA_ARG_MODEL",
            "LLAMA_ARG_MODEL_URL",
            "LLAMA_ARG_HF_REPO",
            "LLAMA_ARG_DOCKER_REPO",
            "LLAMA_ARG_MODELS_DIR",
        ),
        further=(
            "--lora",
            "--lora-scaled",
            "--control-vector",
            "--control-vector-scaled",
            "-mm",
            "--mmproj",
            "-mmu",
            "--mmproj-url",
            "-md",
            "--model-draft",
            "--spec-draft-model",
            "-hfd",
            "-hfrd",
            "--hf-repo-draft",
            "--spec-draft-hf",
            "-mv",
            "--model-vocoder",
            "-hfv",
            "-hfrv",
            "--hf-repo-v",
        ),
        further_variables=(
            "LLAMA_ARG_MMPROJ",
            "LLAMA_ARG_MMPROJ_URL",
            "LLAMA_ARG_MODEL_DRAFT",
            "LLAMA_ARG_SPEC_DRAFT_MODEL",
            "LLAMA_ARG_HFD_REPO",
            "LLAMA_ARG_SPEC_DRAFT_HF_REPO",
            "LLAMA_ARG_HF_REPO_V",
        ),
        files=("--models-preset",),
        named_only=True,
    ),
    ModelServer(
        name="ollama",
        programs=("ollama",),
        subcommands=("run", "pull"),
        positional=True,
        named_only=True,
        entry_point=False,
    ),
    ModelServer(
        name="tensorrt-llm",
        programs=("trtllm-serve",),
        subcommands=("serve", "grpc", "mm_embedding_serve"),
        positional=True,
        revisions=("--revision",),
        further=("--tokenizer",),
        files=("--config", "--extra-llm-api-options"),
        named_only=True,
    ),
    ModelServer(
        name="mlflow",
        programs=("mlflow",),
        options=("-m", "--model-uri"),
        variables=("MLFLOW_MODEL_URI",),
    ),
    ModelServer(name="kserve", programs=(), options=("--model-dir",), abbreviates=True, names_model=False),
)

_BY_NAME = {server.name: server for server in MODEL_SERVERS}
_BY_PROGRAM = {word: server for server in MODEL_SERVERS for word in server.programs}

UNKNOWN_SERVER = ModelServer(
    name="",
    programs=(),
    options=(),
    uris=("--model", "--model-id", "--model-path", "--model-uri", "--model-name-or-path", "--model-dir", "--hf-repo"),
    revisions=("--revision", "--model-revision"),
)
"""A server that nobody knows, in a container with an accelerator: what looks like a model's place counts."""

URI_VARIABLES = ("MODEL_URI", "MLFLOW_MODEL_URI", "MODEL_ID", "HF_MODEL_ID", "MODEL_NAME", "MODEL_PATH", "STORAGE_URI")
"""Variables of servers that nobody knows; they count where they hold a URI."""

FLAG_BEGINNINGS = (
    "--enable-", "--disable-", "--no-", "--use-", "--allow-", "--skip-", "--return-", "--trust-remote-code",
    "--enforce-eager", "--headless", "--async-scheduling", "--grpc", "--calculate-kv-scales", "--language-model-only",
    "--interleave-mm-strings", "--fully-sharded-loras", "--kv-sharing-fast-prefill", "--ray-workers-use-nsight",
    "--data-parallel-hybrid-lb", "--data-parallel-external-lb", "--data-parallel-multi-port-external-lb",
    "--trust-request-chat-template", "--exclude-tools-when-tool-choice-none", "--tokens-only",
    "--cohere-is-reasoning-model", "--fail-fast-on-attention-window-too-large", "--log-error-stack",
    "--verbose", "--help", "--version",
)  # fmt: skip
"""How options begin that take no value, so that the word after them is the server's own."""

VALUED_OPTIONS = ("--disable-access-log-for-endpoints",)
"""Options that begin like those, and take a value all the same."""

PLACE_KEYS = ("path", "lora_path", "model")
"""Keys of JSON values that name what is loaded beside the model."""


SERVER_PROGRAMS = tuple(_BY_PROGRAM)
"""Every word that starts a known server."""

SERVER_PROGRAM = re.compile("|".join(map(re.escape, SERVER_PROGRAMS)))
"""A word or line that may start a known server; most that match do."""

_OTHER_SUBCOMMANDS = {
    "vllm": frozenset({"bench", "chat", "complete", "collect-env"}),
    "mlflow": frozenset({"server", "ui", "gc", "db", "artifacts", "experiments", "runs"}),
    "ollama": frozenset({"list", "ls", "ps", "show", "stop", "rm", "cp", "help"}),
}
_ASKING_PROGRAMS = frozenset(
    {"pgrep", "pkill", "killall", "kill", "pidof", "ps", "grep", "egrep", "fgrep", "which", "type", "command", "ls",
     "cat", "echo", "printf", "test", "[", "curl", "wget", "pip", "pip3", "mkdir", "chmod", "chown", "rm", "cp"}
)  # fmt: skip


def started_server(words: Sequence[str]) -> tuple[ModelServer, int] | None:
    """The server that a command starts and the place of its program; None where it only speaks of one.

    ``pkill vllm`` and ``--backend vllm`` start none, and neither does ``mlflow ui``.
    """
    if not words or words[0].rsplit("/", 1)[-1] in _ASKING_PROGRAMS:
        return None
    for position, word in enumerate(words):
        name = word.rsplit("/", 1)[-1]
        server = _BY_PROGRAM.get(name)
        if server is None:
            continue
        following = words[position + 1] if position + 1 < len(words) else ""
        before = words[position - 1] if position else ""
        of_option = before.startswith("-") and before not in ("-m", "--") and following not in server.subcommands
        if not of_option and following not in _OTHER_SUBCOMMANDS.get(name, ()):
            return server, position
    return None


def server_of_image(framework: Framework | None, image: str) -> ModelServer | None:
    """The server that an image of this system starts."""
    if framework is None:
        return None
    return _BY_NAME.get("huggingfaceserver" if "huggingfaceserver" in image else framework.name)


def server_of_program(word: str) -> ModelServer | None:
    """The server that a word of a command line starts."""
    return _BY_PROGRAM.get(word)
