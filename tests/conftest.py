"""Hypothesis: the same examples in every run of CI, fresh ones at home."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("fresh", deadline=None)
settings.load_profile("fresh" if os.environ.get("TIDEWAITER_FRESH_EXAMPLES") else "ci")
