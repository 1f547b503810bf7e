"""``config.pbtxt`` in protobuf's text format, by Triton's own schema.

The schema is the module ``model_config_pb2`` of the package ``tritonclient``. It is loaded by its
file: ``import tritonclient.grpc`` would bring gRPC, numpy and CUDA's shared memory along.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path
from typing import Any

from tidewaiter_runtime.refusals import BadInput

_MODULE = "tritonclient.grpc.model_config_pb2"


@functools.cache
def schema() -> Any:
    """The generated module: ``ModelConfig``, ``ModelInstanceGroup``, ``DataType`` and the others."""
    if loaded := sys.modules.get(_MODULE):
        return loaded
    found = importlib.util.find_spec("tritonclient")
    folders = list(found.submodule_search_locations or ()) if found else []
    file = next((one for folder in folders if (one := Path(folder) / "grpc" / "model_config_pb2.py").is_file()), None)
    spec = importlib.util.spec_from_file_location("model_config_pb2", file) if file else None
    if spec is None or spec.loader is None:
        raise BadInput("Triton's schema is not installed; install tidewaiter-runtime[triton]")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parse_config(text: str, name: str) -> Any:
    """The ``ModelConfig`` that ``text`` says; BadInput with ``name`` and line where it is none."""
    from google.protobuf import text_format

    try:
        return text_format.Parse(text, schema().ModelConfig())
    except text_format.ParseError as error:
        line = error.GetLine()
        where = f"{name}:{line}" if line else name
        reason = str(error).removeprefix(f"{line}:{error.GetColumn()} : ")
        raise BadInput(f"{where}: not what Triton's schema allows: {reason}") from None


def write_config(config: Any) -> str:
    """The text of a ``ModelConfig``, the same for the same message."""
    from google.protobuf import text_format

    return text_format.MessageToString(config)
