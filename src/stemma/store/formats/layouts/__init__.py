"""Where the tensors lie in a file: one module per container, none reads tensor data."""
