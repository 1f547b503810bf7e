"""The process: settings, HTTP, TLS, Rego, the cluster's facts, and the command line."""
