"""The load test: so many requests at a time over kept-alive connections, and how long they took."""
