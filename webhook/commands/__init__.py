"""The commands of ``tidewaiter``: one module each, loaded when it is called."""
