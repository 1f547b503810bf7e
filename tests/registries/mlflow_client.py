"""Runs in MLflow's own environment: registers models through MLflow's own client.

Usage: mlflow_client.py TRACKING_URI COMMANDS, a JSON list of [method, arguments...].
"""

import json
import sys

import mlflow  # type: ignore[import-not-found,unused-ignore]  # in its own environment


def main() -> None:
    """Do what is asked, and print what came of it."""
    uri, commands = sys.argv[1], json.loads(sys.argv[2])
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    done: list[object] = []
    for method, *arguments in commands:
        if method == "run_with_dataset":
            with mlflow.start_run() as run:
                dataset = mlflow.data.from_numpy(__import__("numpy").arange(4), name=arguments[0])
                mlflow.log_input(dataset)
            done.append({"run": run.info.run_id, "digest": dataset.digest, "artifacts": run.info.artifact_uri})
        else:
            result = getattr(client, method)(*arguments)
            done.append(getattr(result, "version", None))
    print(json.dumps(done))


main()
