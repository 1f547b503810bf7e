"""How the outcome of ``tidewaiter review`` is printed: one module per format."""
