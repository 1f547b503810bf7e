"""The exporter: what Prometheus reads about models that are served."""
