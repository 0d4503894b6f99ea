"""Logs and metrics. Beside the layers: anybody may use it, it uses nobody."""
