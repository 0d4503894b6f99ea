"""The account's host of the Databricks half: sign-in for the whole account, and its federation policies.

server.py serves every module that has `routes()` on an origin of its own; a workspace's host has none of this.
"""
