# ruff: noqa: INP001  # Triton wants its folders named by version
"""The sum of each row."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                output_tensors=[
                    pb_utils.Tensor(
                        "SUM",
                        pb_utils.get_input_tensor_by_name(request, "INPUT")
                        .as_numpy()
                        .sum(axis=-1, keepdims=True)
                        .astype(np.float32),
                    )
                ]
            )
            for request in requests
        ]
