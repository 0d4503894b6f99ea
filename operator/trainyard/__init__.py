"""Trainyard: train and serve models on someone else's compute, from Kubernetes resources."""
