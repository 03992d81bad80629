"""The records of delivery: what production is to be, and what happened, as rows."""
