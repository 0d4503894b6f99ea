"""Azure ML: a workspace in Azure Resource Manager, and the services behind it.

`platform` and what it imports are pure; `connection` talks.
"""
