# ruff: noqa: INP001  # Triton wants its folders named by version
"""The sum of the text's length and of its bytes: it calls two models itself (business logic scripting)."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse(output_tensors=[self._answer(request)]) for request in requests]

    def _answer(self, request):
        text = pb_utils.get_input_tensor_by_name(request, "TEXT")
        (length,) = _called("text_length", "LENGTH", text)
        values = [[float(length.as_numpy()[0][0]), *map(float, text.as_numpy()[0][0])]]
        (total,) = _called("sum", "SUM", pb_utils.Tensor("INPUT", np.array(values, np.float32)))
        return pb_utils.Tensor("TOTAL", total.as_numpy())


def _called(model, output, tensor):
    answer = pb_utils.InferenceRequest(model_name=model, requested_output_names=[output], inputs=[tensor]).exec()
    if answer.has_error():
        raise pb_utils.TritonModelException(answer.error().message())
    return answer.output_tensors()
