"""What a run shows of itself: metric files, TensorBoard, progress, goodput, heartbeat."""
