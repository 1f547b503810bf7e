"""``python -m webhook``: the same as ``tidewaiter``."""

from webhook.cli import main

main()
