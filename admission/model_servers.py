"""How each server is told which model to load, as data.

One row per server: the programs that start it, and its options and variables that name
a model, a revision, or a file that may name one. Option names are compared with dashes
for underscores, since most of these parsers take both.

Sources: vLLM ``vllm/entrypoints/cli/serve.py`` and ``vllm/utils/argparse_utils.py`` (a
FlexibleArgumentParser keeps argparse's abbreviations; which of a positional model and
``--model`` counts has changed more than once, so both are looked at); SGLang
``python/sglang/srt/server_args.py``; the TGI and TEI launchers' arguments; llama.cpp
``common/arg.cpp``; Triton ``src/command_line_parser.cc``; TensorFlow Serving's
``tf_serving_entrypoint.sh``; MLServer's settings; TensorRT-LLM ``trtllm-serve``;
KServe's ``python/huggingfaceserver``; NIM's environment variables.
"""

from __future__ import annotations

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
    model's name, and not the folder of several.
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
    abbreviates: bool = False
    named_only: bool = False
    entry_point: bool = True
    names_model: bool = True


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
        lists=("--served-model-name", "--lora-modules", "--middleware", "--prompt-adapters", "--logits-processors"),
        abbreviates=True,
        named_only=True,
    ),
    ModelServer(
        name="sglang",
        programs=("sglang", "sglang.launch_server"),
        options=("--model-path", "--model"),
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
        revisions=("--revision",),
        revision_variables=("REVISION",),
        named_only=True,
    ),
    ModelServer(
        name="huggingfaceserver",
        programs=("huggingfaceserver",),
        options=("--model-id", "--model-dir"),
        revisions=("--model-revision",),
        abbreviates=True,
    ),
    ModelServer(
        name="triton",
        programs=("tritonserver",),
        options=("--model-repository", "--model-store"),
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
        subcommands=("serve",),
        positional=True,
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
    "--data-parallel-hybrid-lb", "--data-parallel-external-lb", "--log-error-stack", "--verbose", "--help", "--version",
)  # fmt: skip
"""How options begin that take no value, so that the word after them is the server's own."""


def server_of_image(framework: Framework | None, image: str) -> ModelServer | None:
    """The server that an image of this system starts."""
    if framework is None:
        return None
    return _BY_NAME.get("huggingfaceserver" if "huggingfaceserver" in image else framework.name)


def server_of_program(word: str) -> ModelServer | None:
    """The server that a word of a command line starts."""
    return _BY_PROGRAM.get(word)
