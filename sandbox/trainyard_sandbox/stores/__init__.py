"""What the sandbox's workspace holds: files, models, artifacts, tracked runs. No HTTP routes here.

The modules of `databricks` serve these stores; each store is built by one module's `attach` and hangs on the state.
"""
