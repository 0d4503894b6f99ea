"""Databricks: jobs, workspace files, MLflow tracking and Unity Catalog models, behind the contract in `platforms.base`.

Nothing here imports the SDK before the first request to a workspace.
"""
