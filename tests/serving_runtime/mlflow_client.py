"""Runs in MLflow's own environment: registers a model of files through MLflow's own client.

Usage: mlflow_client.py TRACKING_URI NAME FOLDER; prints the run, the version and where MLflow says the files are.
"""

import json
import sys

import mlflow  # type: ignore[import-not-found,unused-ignore]  # in its own environment


def main() -> None:
    """Log the folder as artifacts of a run, and register it under the name."""
    uri, name, folder = sys.argv[1:]
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    with mlflow.start_run() as run:
        mlflow.log_artifacts(folder, "model")
    source = f"{run.info.artifact_uri}/model"
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    version = client.create_model_version(name, source, run.info.run_id).version
    client.set_registered_model_alias(name, "champion", version)
    print(json.dumps({"run": run.info.run_id, "version": version, "source": source}))


main()
