"""Decides what happens next to a ModelDeployment. Pure, like everything in `core`."""
