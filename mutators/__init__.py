"""One mutation per module; each has one constant, ``MUTATOR``."""
