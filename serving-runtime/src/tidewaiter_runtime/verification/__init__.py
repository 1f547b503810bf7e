"""Whether the bytes are those that were approved, and who signed them."""
