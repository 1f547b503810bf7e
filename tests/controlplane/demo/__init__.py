"""A cluster to try Tidewaiter in: `python -m tests.controlplane.demo`."""
