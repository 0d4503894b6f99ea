"""Watches resources, asks `core` what to do, and does it. The only layer that knows kopf and Kubernetes."""
