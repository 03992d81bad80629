"""One adapter per model library: reads the object, never patches the library."""
