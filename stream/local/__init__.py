"""Kafka and ClickHouse on one machine without containers: for `tocsin up`, `tocsin demo` and the tests.

Everything here binds to loopback, runs as a child process of whoever starts it and keeps its files in one
folder.
"""

from stream.local.process import AlreadyRunningError, LocalRuntimeError

__all__ = ["AlreadyRunningError", "LocalRuntimeError"]
