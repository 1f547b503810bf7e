"""Drift: what a model is asked now against what it was registered with."""
