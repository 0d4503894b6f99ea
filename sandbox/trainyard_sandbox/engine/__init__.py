"""What happens to a submitted run: really run (run.py), or pretended from a script (pretend.py).

databricks/jobs.py hands runs to an engine and reads their state from the run store; engines never see a request.
"""
