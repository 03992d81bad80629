"""Tables of a lake as datasets: one snapshot, pinned by what never changes in it."""
