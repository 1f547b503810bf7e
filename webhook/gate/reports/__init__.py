"""How the outcome of ``tidewaiter gate`` is printed: one module per format."""
