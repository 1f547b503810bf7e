"""Writes the dashboards and the PrometheusRule objects.

``PYTHONPATH=serving-runtime python -m observability`` writes; with ``--check`` it only says what is
stale, and ends with 1 where anything is.
"""

from __future__ import annotations

import sys

from observability.generated import HERE, stale_files


def main() -> int:
    """Write, or check."""
    check = "--check" in sys.argv[1:]
    stale = stale_files()
    for path, text in stale.items():
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        told = "is stale: run PYTHONPATH=serving-runtime python -m observability" if check else "written"
        print(f"serving-runtime/observability/{path.relative_to(HERE)} {told}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
