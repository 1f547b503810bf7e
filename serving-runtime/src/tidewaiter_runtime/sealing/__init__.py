"""Models that lie in their store encrypted."""
