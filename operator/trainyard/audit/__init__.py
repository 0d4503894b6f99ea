"""The audit trail: one record before and one after each request to a platform, whoever caused it."""
