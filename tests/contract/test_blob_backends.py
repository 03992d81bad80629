"""Every blob backend passes the one contract."""

from pathlib import Path

import pytest

from stemma.store.backends.base import BlobBackend
from stemma.store.backends.local import LocalBackend
from stemma.store.backends.memory import MemoryBackend
from stemma.testing.blob_backend_contract import BlobBackendContract


class TestLocalBackend(BlobBackendContract):
    """A folder."""

    @pytest.fixture
    def backend(self, tmp_path: Path) -> BlobBackend:
        return LocalBackend(tmp_path / "deep" / "objects")


class TestMemoryBackend(BlobBackendContract):
    """A dictionary."""

    @pytest.fixture
    def backend(self) -> BlobBackend:
        return MemoryBackend()
