"""Plugins that every test may use; the fixtures live beside what they start."""

pytest_plugins = ["trainyard_localcluster.pytest_plugin"]
