"""Trainyard: train and serve models on someone else's compute, from Kubernetes resources."""

__version__ = "0.1.0"
