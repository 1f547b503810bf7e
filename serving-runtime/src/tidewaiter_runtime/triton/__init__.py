"""Triton: its model repository, its flags, and the process around it."""
