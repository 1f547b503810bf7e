"""The pods that workloads create: one module per family of kinds, one table entry per kind."""
