# ruff: noqa: INP001  # Triton wants its folders named by version
"""Gives back what it got, after the time that its parameter ``seconds`` says, however many requests a batch has.

The file of its parameter ``begun`` appears when a run begins; a run ends only when the file of ``until`` is there.
"""

import json
import time
from pathlib import Path

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self._begun = parameters.get("begun", {}).get("string_value")
        self._until = parameters.get("until", {}).get("string_value")
        self._seconds = float(parameters["seconds"]["string_value"])

    def execute(self, requests):
        if self._begun:
            Path(self._begun).touch()
        time.sleep(self._seconds)
        while self._until and not Path(self._until).exists():
            time.sleep(0.02)
        return [
            pb_utils.InferenceResponse(
                output_tensors=[
                    pb_utils.Tensor("OUTPUT", pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy())
                ]
            )
            for request in requests
        ]
