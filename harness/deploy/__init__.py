"""Using what a run made: evaluate, predict, export."""
