"""Where the text of a run's logs is kept, as a workspace says. Called by `controllers`."""
