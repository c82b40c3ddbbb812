"""What runs inside a task: the composition root and the stop signals."""
