"""The server that the other tests use is a real one, and its example models do what they say."""

from __future__ import annotations

from pathlib import Path

from tests.serving_runtime.tritonserver import MODELS, running_triton

_GRPC = """
import sys, numpy as np, tritonclient.grpc as triton
client = triton.InferenceServerClient(sys.argv[1])
given = triton.InferInput("INPUT", [1, 3], "FP32")
given.set_data_from_numpy(np.array([[1, 2, 4]], np.float32))
print(client.infer("sum", [given]).as_numpy("SUM").item())
"""


def test_a_real_server_answers_over_http_and_grpc_and_counts_it(tmp_path: Path) -> None:
    with running_triton(MODELS, "--disable-auto-complete-config", log=tmp_path / "log") as triton:
        assert triton.infer("sum", INPUT=("FP32", [1.0, 2.0, 4.5])) == {"SUM": [7.5]}
        assert triton.infer("text_length", TEXT=("BYTES", ["größe"])) == {"LENGTH": [5], "ECHO": ["größe"]}
        assert triton.infer("slow", INPUT=("FP32", [3.0])) == {"OUTPUT": [3.0]}
        assert triton.client(_GRPC, f"127.0.0.1:{triton.grpc}") == "7.0"
        assert triton.metric("nv_inference_request_success", model="sum") == 2
    assert triton.process.exit_status == 0, triton.process.log_tail()
