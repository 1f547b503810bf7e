"""Which source a URI is read by."""

from __future__ import annotations

from collections.abc import Mapping

from tidewaiter_runtime.preload.folder_source import FolderSource
from tidewaiter_runtime.preload.hub_source import HubSource
from tidewaiter_runtime.preload.mlflow_source import MlflowSource
from tidewaiter_runtime.preload.oci_source import OciSource
from tidewaiter_runtime.preload.source_files import Source
from tidewaiter_runtime.preload.source_uri import SourceUri
from tidewaiter_runtime.preload.web_client import WebClient
from tidewaiter_runtime.preload.web_source import WebSource


def open_source(uri: SourceUri, connections: int, environment: Mapping[str, str]) -> Source:
    """The source of a URI; credentials come from ``environment`` alone."""
    if uri.scheme == "file":
        return FolderSource(uri)
    if uri.scheme == "hf":
        return HubSource(uri, WebClient(connections), environment)
    if uri.scheme == "https":
        return WebSource(uri, WebClient(connections))
    if uri.scheme == "oci":
        return OciSource(uri, WebClient(connections), environment)
    if uri.scheme in ("models", "runs", "mlflow-artifacts"):
        client = WebClient(connections)
        return MlflowSource(uri, client, environment, lambda other: open_source(other, connections, environment))
    from tidewaiter_runtime.preload.object_store_source import ObjectStoreSource  # 15 MB that the others do not need

    return ObjectStoreSource(uri, environment)
