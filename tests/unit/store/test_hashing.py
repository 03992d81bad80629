"""Hashing: the digests that other tools would compute."""

import io
from pathlib import Path

import pytest

from stemma.domain.digest import Algorithm
from stemma.store.hashing import blake3_raw, hash_bytes, hash_file, hash_stream

KNOWN = {
    Algorithm.BLAKE3: "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
    Algorithm.SHA256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    Algorithm.MD5: "900150983cd24fb0d6963f7d28e17f72",
}


@pytest.mark.parametrize("algorithm", Algorithm)
def test_digests_are_the_published_ones(algorithm: Algorithm, tmp_path: Path) -> None:
    """git-lfs, OCI and DVC name the same bytes by the same digests."""
    (tmp_path / "f").write_bytes(b"abc")
    expected = f"{algorithm.value}:{KNOWN[algorithm]}"
    assert str(hash_bytes(b"abc", algorithm)) == expected
    assert str(hash_stream(io.BytesIO(b"abc"), algorithm)) == expected
    assert str(hash_file(tmp_path / "f", algorithm)) == expected


def test_raw_and_named_blake3_agree() -> None:
    """Chunk tables hold raw digests, manifests named ones."""
    assert blake3_raw(b"abc").hex() == hash_bytes(b"abc").hex
