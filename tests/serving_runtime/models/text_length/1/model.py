# ruff: noqa: INP001  # Triton wants its folders named by version
"""The number of characters of a text, and the text itself."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            texts = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
            lengths = np.array([[len(row[0].decode())] for row in texts], dtype=np.int32)
            responses.append(
                pb_utils.InferenceResponse(
                    output_tensors=[pb_utils.Tensor("LENGTH", lengths), pb_utils.Tensor("ECHO", texts)]
                )
            )
        return responses
