"""Time, memory, accuracy, critical batch sizes."""
