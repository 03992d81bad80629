"""Laws of packs: whatever is done with them, a store is a dictionary."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.store.backends.local import LocalBackend

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

keys = st.sampled_from([f"{folder}/{name}" for folder in ("a", "a-b", "b/c") for name in "0123"])
batches = st.dictionaries(keys, st.binary(max_size=40), max_size=6)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), batches),
        st.tuples(st.just("delete"), st.lists(keys, max_size=5)),
        st.tuples(st.just("trash"), st.lists(keys, max_size=5)),
        st.tuples(st.sampled_from(["tidy", "reopen", "mend", "empty"]), st.none()),
    ),
    max_size=14,
)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_any_sequence_of_calls_leaves_what_a_dictionary_would_hold(
    done: list[tuple[str, object]],
) -> None:
    """A blob that is lost, or comes back, after the right sequence of adds and collections."""
    with tempfile.TemporaryDirectory() as folder:
        backend = LocalBackend(Path(folder) / "objects")
        expected: dict[str, bytes] = {}
        for name, argument in done:
            match name, argument:
                case "put", dict(blobs):
                    assert backend.put_many(blobs) == blobs.keys() - expected.keys()
                    expected = blobs | expected
                case "delete", list(gone):
                    backend.delete_many(gone)
                    expected = {k: v for k, v in expected.items() if k not in gone}
                case "trash", list(gone):
                    backend.trash.take(gone, NOW)
                    expected = {k: v for k, v in expected.items() if k not in gone}
                case "empty", _:
                    backend.trash.remove(list(backend.trash.list()))
                    assert list(backend.trash.list()) == []
                case "tidy", _:
                    backend.tidy()
                case "mend", _:
                    assert backend.mend() == ()
                case _:
                    backend.close()
                    backend = LocalBackend(Path(folder) / "objects")
        _is_a_dictionary(backend, expected)
        backend.close()


def _is_a_dictionary(backend: LocalBackend, expected: dict[str, bytes]) -> None:
    listed = list(backend.list())
    assert [stat.key for stat in listed] == sorted(expected)
    assert [stat.size_bytes for stat in listed] == [len(expected[k]) for k in sorted(expected)]
    assert {key: backend.get(key) for key in expected} == expected
    for key, data in expected.items():
        assert backend.get_range(key, 3, 5) == data[3:8]
    assert list(backend.damages()) == []
