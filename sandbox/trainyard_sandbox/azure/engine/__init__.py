"""The engines of Azure ML jobs: `command.py` really runs them, `pretend.py` only moves them through states.

dispatch.py chooses; what a sweep or a pipeline does is in those modules, behind the protocol `live.JobType`.
"""
