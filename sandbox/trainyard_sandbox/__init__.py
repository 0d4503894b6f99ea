"""A strict local stand-in for Databricks, for tests, demos and people without a cloud account."""
