"""A real Kubernetes control plane for tests and the demo: no cluster, no containers."""
