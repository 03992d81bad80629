"""What the server says of itself: that it lives, what it speaks, what it can do."""

from __future__ import annotations

from typing import Final

from stemma.protocols.mlflow.routes import MlflowRequest, MlflowRoute, Needs, Response

VERSION: Final = "3.17.2"
"""MLflow's version whose protocol this is; clients ask which fields they may send."""

_ABILITIES: Final = {
    "store_type": "SqlStore",
    "workspaces_enabled": False,
    "trace_archival_enabled": False,
    "multipart_uploads_enabled": True,
    "multipart_downloads_enabled": False,
    "presigned_upload_run_id_supported": False,
    "presigned_upload_model_id_supported": False,
    "features_enabled": {"gateway": False},
}


async def health(_: MlflowRequest) -> object:
    """Say that the server answers."""
    return Response(body=b"OK", media_type="text/plain; charset=utf-8")


async def version(_: MlflowRequest) -> object:
    """Say which MLflow this is like."""
    return Response(body=VERSION.encode(), media_type="text/plain; charset=utf-8")


async def server_info(_: MlflowRequest) -> object:
    """Say what clients may ask for; they read it before they say who they are."""
    return _ABILITIES


ROUTES: Final = (
    MlflowRoute(method="GET", path="/health", handler=health, needs=Needs.OPEN),
    MlflowRoute(method="GET", path="/version", handler=version, needs=Needs.OPEN),
    MlflowRoute(
        method="GET",
        path="/api/3.0/mlflow/server-info",
        handler=server_info,
        needs=Needs.OPEN,
    ),
)
