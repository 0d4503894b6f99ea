"""Generates the CRDs, their reference pages and the chart's copy of them from the pydantic models of trainyard.api,
and from the chart the rights that tests run under.

Called by hack/generate.py (`make generate`, `make check`). Never imported by the operator.
"""
