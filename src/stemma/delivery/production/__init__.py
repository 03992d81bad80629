"""The loop that makes what runs and what is routed follow what is decided."""
