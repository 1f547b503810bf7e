"""``tidewaiter gate``: evidence about a model version, held to the thresholds of an environment."""
