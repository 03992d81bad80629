"""Every blob backend passes the one contract."""

import os
import secrets
from pathlib import Path
from typing import Any

import pytest

from stemma.store.backends.addresses import parse_address
from stemma.store.backends.base import BlobBackend
from stemma.store.backends.local import LocalBackend
from stemma.store.backends.memory import MemoryBackend
from stemma.store.backends.opening import open_backend
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


@pytest.mark.s3
@pytest.mark.slow
class TestCloudBackend(BlobBackendContract):
    """A bucket, over the wire."""

    @pytest.fixture
    def backend(self, s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> BlobBackend:
        for name, value in s3_server.variables.items():
            monkeypatch.setenv(name, value)
        bucket = f"contract-{secrets.token_hex(4)}"
        s3_server.make_bucket(bucket)
        return open_backend(parse_address(f"s3://{bucket}/some/prefix"), os.environ)

    def test_a_blob_too_large_for_one_request_comes_back(self, backend: BlobBackend) -> None:
        """The recipe of a huge file would be lost, or replaced."""
        large = bytes(range(256)) * (65 << 12)
        assert backend.put("a/large", large)
        assert backend.get("a/large") == large
        assert not backend.put("a/large", b"x" * len(large))
        assert backend.get_range("a/large", len(large) - 3, 10) == large[-3:]


@pytest.mark.s3
@pytest.mark.slow
class TestGoogleBackend(BlobBackendContract):
    """What Google's library of words asks, answered by the S3 server behind a translator."""

    @pytest.fixture
    def backend(
        self, s3_server: Any, google_wire: Any, monkeypatch: pytest.MonkeyPatch
    ) -> BlobBackend:
        if "STEMMA_TEST_S3_ENDPOINT" in os.environ:
            pytest.skip("a real server wants real signatures, which the translator cannot make")
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", google_wire.url)
        bucket = f"google-{secrets.token_hex(4)}"
        s3_server.make_bucket(bucket)
        return open_backend(parse_address(f"gs://{bucket}/some/prefix"), os.environ)


@pytest.mark.slow
class TestAzureBackend(BlobBackendContract):
    """A container of Microsoft's own emulator, where that is installed."""

    @pytest.fixture
    def backend(self, azure_server: Any, monkeypatch: pytest.MonkeyPatch) -> BlobBackend:
        for name, value in azure_server.variables.items():
            monkeypatch.setenv(name, value)
        container = f"azure-{secrets.token_hex(4)}"
        azure_server.make_container(container)
        return open_backend(parse_address(f"az://{container}/some/prefix"), os.environ)

    def test_a_blob_too_large_for_one_request_comes_back(self, backend: BlobBackend) -> None:
        """The recipe of a huge file would be lost, or replaced."""
        large = bytes(range(256)) * (65 << 12)
        assert backend.put("a/large", large)
        assert backend.get("a/large") == large
