"""What is inside a file: the only place that knows tensors."""
