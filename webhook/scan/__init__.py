"""Judging what already runs by the rules of today."""
