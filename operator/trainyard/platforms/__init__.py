"""Platforms that can run a training: one folder each, behind the contract in `platforms.base`."""
