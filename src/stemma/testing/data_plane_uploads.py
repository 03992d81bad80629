"""What every data plane does with large bodies for the control application.

A part of ``data_plane_contract``.
"""

# ruff: noqa: S101, PLR2004 — a contract suite is made of asserts and small numbers

from __future__ import annotations

import hashlib
import http.client
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from stemma.delivery.planes.base import DataPlane
from stemma.testing.data_plane_world import World, free_port
from stemma.testing.stand_in_store import SIZE_BYTES, StandInStore, content_digest

_FIRST_BYTES: Final = 2**20


class UploadContract:
    """Uploads and downloads pass through as they come."""

    def make(self, folder: Path, port: int, sockets: Path) -> DataPlane:
        """Return the data plane under test, not started."""
        raise NotImplementedError

    @pytest.fixture
    def stored(self, tmp_path: Path) -> Iterator[tuple[World, StandInStore]]:
        """Return a started data plane before an application that stores."""
        sockets = Path(tempfile.mkdtemp(prefix="dp-"))
        world = World(self.make, tmp_path / "plane", free_port(), sockets)
        try:
            with closing(StandInStore(sockets)) as store:
                world.plane.start()
                world.publish(0, control=str(store.path), timeout_seconds=0.2)
                yield world, store
        finally:
            world.close()
            shutil.rmtree(sockets)

    @pytest.mark.slow
    def test_an_upload_passes_through_as_it_comes(self, stored: tuple[World, StandInStore]) -> None:
        """A model of gigabytes would fill memory, or a disk, on its way to the store."""
        world, store = stored
        connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=30)
        connection.putrequest("PUT", "/take")
        connection.putheader("Content-Length", str(SIZE_BYTES))
        connection.endheaders()
        block = bytes(range(256)) * (_FIRST_BYTES // 256)
        connection.send(block)
        world.until(lambda: store.received == _FIRST_BYTES)
        for _ in range(SIZE_BYTES // _FIRST_BYTES - 1):
            connection.send(block)
        answer = connection.getresponse().read().decode()
        connection.close()
        assert content_digest() in answer

    @pytest.mark.slow
    def test_downloads_and_ranges_arrive(self, stored: tuple[World, StandInStore]) -> None:
        """A model could be stored and not be loaded."""
        world, _ = stored
        whole = world.ask("/give", method="GET", body=b"")
        assert whole.status == 200
        assert hashlib.sha256(whole.body).hexdigest() == content_digest()
        part = world.ask("/give", method="GET", body=b"", headers={"Range": "bytes=300-5000000"})
        assert part.status == 206
        assert part.headers["content-range"] == f"bytes 300-5000000/{SIZE_BYTES}"
        assert part.body == whole.body[300:5000001]

    @pytest.mark.slow
    def test_an_answer_may_take_longer_than_a_models(
        self, stored: tuple[World, StandInStore]
    ) -> None:
        """What is written behind an upload would be cut off by the patience of users."""
        world, _ = stored
        assert world.ask("/wait", method="GET", body=b"").status == 200

    @pytest.mark.slow
    def test_an_upload_that_is_refused_at_once_is_told_why(
        self, stored: tuple[World, StandInStore]
    ) -> None:
        """The client would see a broken connection, and try again for minutes."""
        world, _ = stored
        connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=30)
        connection.putrequest("PUT", "/refuse")
        connection.putheader("Content-Length", str(SIZE_BYTES))
        connection.endheaders()
        connection.send(bytes(1000))
        response = connection.getresponse()
        assert (response.status, response.read()) == (400, b'{"error": "refused"}')
        connection.close()
        assert world.ask("/wait", method="GET", body=b"").status == 200
