"""Every data plane passes the one contract."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import override

from stemma.delivery.planes.base import DataPlane
from stemma.delivery.planes.builtin import BuiltinPlane
from stemma.delivery.planes.envoy import EnvoyPlane
from stemma.testing.data_plane_contract import DataPlaneContract
from stemma.testing.data_plane_uploads import UploadContract


class TestEnvoyPlane(DataPlaneContract, UploadContract):
    """Envoy from its wheel."""

    @override
    def make(self, folder: Path, port: int, sockets: Path) -> DataPlane:
        return EnvoyPlane(folder, "127.0.0.1", port, sockets=sockets)


class TestBuiltinPlane(DataPlaneContract, UploadContract):
    """The proxy of our own."""

    @override
    def make(self, folder: Path, port: int, sockets: Path) -> DataPlane:
        return BuiltinPlane(folder, "127.0.0.1", port, sockets=sockets)
