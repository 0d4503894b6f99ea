"""Served models for every platform of the sandbox: processes that really load an MLflow model and answer.

databricks/serving*.py and azure/online*.py build their endpoints on it; nothing here knows HTTP routes or a platform's
words. One `Fleet` per sandbox, at `SandboxState.serving`:

- fleet.py `Fleet`: `serve(identity, source, ...)` makes a `ServedModel`; `scripts` is what the control API asked for;
  `live(platform, endpoint)` lists what there is; `stop()` ends everything.
- served_model.py `ServedModel`: one model behind an endpoint. `state` is creating, ready, stopped (scaled to zero),
  failed or gone; `provision()` brings it up, `score(body)` answers, `retire()` lets its requests end and takes it away;
  `metrics`, `log`, `build_log`, `message`.
- model_server.py `ModelServer`: the process of one model folder; `PretendedServer` answers without one.
- nursery.py `Nursery` and nursery_process.py: the process that has MLflow imported and forks a server per model.
- scoring.py: reads a request body and writes the predictions, in that process.
- traffic.py `TrafficSplit`: who gets the next request, by shares. metrics.py `Metrics`: counts and latencies.
- scripts.py `Script`, `Scripts`, `Behaviour`, `SCRIPT_SHAPE`: provisioning that is slow or fails, pretended
  predictions, errors and latencies, idle seconds; control.py has the control API's routes,
  `trainyard_sandbox.serving_client` its client.
"""
