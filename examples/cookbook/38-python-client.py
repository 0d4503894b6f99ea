"""Starts a training from a manifest, waits for it, and uses what came out. Needs no credential for the platform."""

import sys

from trainyard.client import RunFailed, Trainyard

trainyard = Trainyard(namespace=sys.argv[1] if len(sys.argv) > 1 else "team-wine")
manifest = {
    "apiVersion": "trainyard.dev/v1alpha1",
    "kind": "MLTrainingRun",
    "metadata": {"generateName": "from-python-"},
    "spec": {
        "workspaceRef": {"name": "databricks"},
        "code": {"inline": "print('hello from', __import__('os').environ['TRAINYARD_NAME'])"},
        "compute": {"class": "small"},
    },
}
try:
    run = trainyard.run(manifest, timeout=600)
except RunFailed as failure:
    sys.exit(f"{failure.run.name} failed: {failure}")
print(run.name, run.phase, run.url)
