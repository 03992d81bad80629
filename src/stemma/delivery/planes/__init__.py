"""Data planes: what stands in front of the model processes."""
