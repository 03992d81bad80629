"""Packs: many blobs of a folder in one file (normative text: ``docs/formats/store.md`` §Packs).

``layout`` knows the bytes, ``scan`` finds entries of a damaged pack, ``writing`` makes packs and
sidecars, ``index`` finds keys in all packs of a folder, ``folder`` is what the local backend
uses, ``tidying`` rewrites and mends.
"""
