"""One rule per module; each has one constant, ``VALIDATOR``."""
