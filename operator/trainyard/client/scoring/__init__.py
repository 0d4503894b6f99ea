"""Rows scored at a deployment's endpoint with the caller's own rights on the platform, never with the operator's.

`score.py` puts it together. Where the endpoint is comes from the deployment's status, and must be a host of its
platform (place.py); the credential is what the platform's own SDK finds for the caller (databricks.py, azure.py), which
is imported when rows are scored, not before.
"""
