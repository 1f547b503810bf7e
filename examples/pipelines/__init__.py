"""Pipelines that pass the gate."""
