"""The page over decision records: read-only, rendered on the server, for whom the cluster lets read."""
