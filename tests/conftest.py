"""Plugins that every test may use; the fixtures live beside what they start."""

import signal

pytest_plugins = ["trainyard_localcluster.pytest_plugin"]


def pytest_configure() -> None:
    """A shell starts background jobs with SIGINT ignored, and children inherit that: Ctrl-C could not be tested."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
