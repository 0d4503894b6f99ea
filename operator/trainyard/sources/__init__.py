"""Where a run's source code comes from when it is kept elsewhere than in the cluster. Called by `controllers`."""
