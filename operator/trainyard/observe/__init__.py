"""Looks at remote runs: one sweep per host and principal, never a request per run where a list will do."""
