"""Bringing a model: from where, how, and where to."""
