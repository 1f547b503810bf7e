"""Comparing two versions of a model by the records of what they answered. Needs the standard library alone."""
