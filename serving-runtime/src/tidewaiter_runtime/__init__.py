"""What stands beside a model server: the digest of a model's bytes, and its signatures."""
