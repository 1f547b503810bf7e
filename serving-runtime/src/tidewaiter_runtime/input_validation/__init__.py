"""The input gate: what stands between callers and a model server, and lets only declared inputs through."""
