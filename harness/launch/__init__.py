"""From a spec to running tasks."""
