"""Models, versions, channels and lineage: records and the verbs on them."""
