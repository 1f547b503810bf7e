"""``python -m tidewaiter_runtime``."""

from tidewaiter_runtime.cli import main

if __name__ == "__main__":
    main()
