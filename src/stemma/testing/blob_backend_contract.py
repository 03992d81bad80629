"""The contract every ``BlobBackend`` passes: subclass it and say how to make one.

Example:
    >>> class TestMyBackend(BlobBackendContract):
    ...     @pytest.fixture
    ...     def backend(self) -> BlobBackend:
    ...         return MyBackend()

It checks what callers see; durability needs a crash test of the implementation's own.
"""

# ruff: noqa: S101 — a contract suite is made of asserts

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from stemma.domain.errors import InvalidInputError, NotFoundError
from stemma.store.backends.base import BlobBackend

_BAD_KEYS = (
    "",
    "name",
    "/etc/passwd",
    "a/../b",
    "../a/b",
    "a//b",
    "a/.hidden",
    "a/b/",
    "A/b",
    "a/b c",
    "a/b\0",
    "a\\b/c",
    "tmp/x",
    "packs/x",
    "a/" + "b" * 600,
)


class BlobBackendContract:
    """What every backend must do; a subclass gives the ``backend`` fixture."""

    def test_a_blob_comes_back_as_it_was_put(self, backend: BlobBackend) -> None:
        """Anything else would be a corrupt model."""
        for number, data in enumerate((b"", b"x", bytes(range(256)) * 4096)):
            assert backend.put(f"a/{number}", data)
            assert backend.get(f"a/{number}") == data
            assert backend.size(f"a/{number}") == len(data)

    def test_a_blob_is_written_once(self, backend: BlobBackend) -> None:
        """A second writer must never replace what a version names."""
        assert backend.put("a/b", b"first")
        assert not backend.put("a/b", b"second")
        assert backend.get("a/b") == b"first"

    def test_many_blobs_are_put_at_once_and_the_new_ones_are_named(
        self, backend: BlobBackend
    ) -> None:
        """Storing a folder would lose files that a batch forgets."""
        backend.put("a/1", b"old")
        created = backend.put_many({"a/1": b"new", "a/2": b"2", "b/c/3": b"3"})
        assert created == {"a/2", "b/c/3"}
        assert [backend.get(key) for key in ("a/1", "a/2", "b/c/3")] == [b"old", b"2", b"3"]
        assert backend.put_many({}) == frozenset()

    def test_a_range_is_a_slice(self, backend: BlobBackend) -> None:
        """Reading one chunk must not need the whole frame, nor run past its end."""
        backend.put("a/b", b"0123456789")
        assert backend.get_range("a/b", 2, 3) == b"234"
        assert backend.get_range("a/b", 8, 100) == b"89"
        assert backend.get_range("a/b", 20, 1) == b""
        assert backend.get_range("a/b", 0, 0) == b""

    def test_a_missing_blob_is_not_found(self, backend: BlobBackend) -> None:
        """The caller must be able to tell missing from unreachable."""
        backend.put("a/b", b"x")
        for key in ("a/c", "z/z", "a/b/c"):
            assert not backend.exists(key)
            for read in (backend.get, backend.size, lambda key: backend.get_range(key, 0, 1)):
                with pytest.raises(NotFoundError) as caught:
                    read(key)
                assert caught.value.code == "blob-not-found"

    def test_listing_is_sorted_and_takes_any_prefix(self, backend: BlobBackend) -> None:
        """Verification and collection rely on seeing each blob once, in order."""
        keys = ["a/b", "a-b/x", "a/b-c/d", "a/bb/c", "b/a", "a/b0"]
        backend.put_many({key: key.encode() for key in keys if key != "a/b"})
        backend.put_many({"a/b1": b"1"})
        listed = [stat.key for stat in backend.list()]
        assert listed == sorted(listed)
        assert set(listed) == (set(keys) - {"a/b"}) | {"a/b1"}
        assert [stat.key for stat in backend.list("a/b")] == ["a/b-c/d", "a/b0", "a/b1", "a/bb/c"]
        assert [stat.key for stat in backend.list("a/")] == ["a/b-c/d", "a/b0", "a/b1", "a/bb/c"]
        assert list(backend.list("missing/")) == []

    def test_a_listing_says_size_and_age(self, backend: BlobBackend) -> None:
        """The grace period of garbage collection depends on it."""
        backend.put("a/b", b"12345")
        (stat,) = backend.list()
        assert stat.size_bytes == len(b"12345")
        assert stat.modified_at.tzinfo is not None
        assert abs(datetime.now(UTC) - stat.modified_at) < timedelta(minutes=5)

    def test_deleting_removes_and_says_so(self, backend: BlobBackend) -> None:
        """A blob that was collected must be gone, and may be written again."""
        backend.put("a/b", b"x")
        assert backend.delete("a/b")
        assert not backend.delete("a/b")
        assert not backend.exists("a/b")
        assert backend.put("a/b", b"y")
        assert backend.get("a/b") == b"y"

    def test_deleting_many_ignores_what_is_missing(self, backend: BlobBackend) -> None:
        """A collection that is run again after a crash must not stumble."""
        backend.put_many({"a/1": b"1", "a/2": b"2", "b/3": b"3"})
        backend.delete_many(["a/1", "b/3", "c/4"])
        assert [stat.key for stat in backend.list()] == ["a/2"]
        backend.delete_many([])

    def test_what_was_deleted_may_be_put_again_with_others(self, backend: BlobBackend) -> None:
        """A damaged blob gives way to the right bytes, alone or in a batch."""
        first = {f"a/{number}": b"first" for number in range(4)}
        backend.put_many(first)
        backend.delete_many(["a/1", "a/2"])
        assert [stat.key for stat in backend.list()] == ["a/0", "a/3"]
        again = dict.fromkeys(first, b"again")
        assert backend.put_many(again) == {"a/1", "a/2"}
        assert [backend.get(key) for key in again] == [b"first", b"again", b"again", b"first"]
        assert [stat.key for stat in backend.list()] == sorted(first)
        assert not backend.put("a/1", b"third")

    @pytest.mark.parametrize("key", _BAD_KEYS)
    def test_a_malformed_key_is_refused(self, backend: BlobBackend, key: str) -> None:
        """A key from a crafted tree must not reach outside the store."""
        operations = (
            lambda: backend.put(key, b""),
            lambda: backend.put_many({key: b""}),
            lambda: backend.get(key),
            lambda: backend.get_range(key, 0, 1),
            lambda: backend.exists(key),
            lambda: backend.size(key),
            lambda: backend.delete(key),
            lambda: backend.delete_many([key]),
        )
        for operation in operations:
            with pytest.raises(InvalidInputError) as caught:
                operation()
            assert caught.value.code == "bad-key"
        assert list(backend.list()) == []

    def test_one_of_many_writers_creates(self, backend: BlobBackend) -> None:
        """Two trainings that finish at once must not both believe they were first."""
        with ThreadPoolExecutor(max_workers=8) as pool:
            answers = list(pool.map(lambda _: backend.put("a/b", b"same"), range(32)))
        assert sum(answers) == 1
        assert backend.get("a/b") == b"same"
