"""The files that the store's figures are measured on: a real model and what people do with it.

all-MiniLM-L6-v2 (22.7 million parameters) from a package of the Python index, really fine-tuned
on a CPU, and what stands beside models: other number formats, other containers, a trainer's
state, growing tables, forests.

Invariants:
    * Everything is seeded, and made once: what is there and complete is used again.
    * A set is a list of versions, oldest first, and a version is a folder of files.

Nothing here knows how the files are stored.
"""
