"""An artifact of a gigabyte with MLflow's own client: up, down whole, down in ranges.

The client cuts the file into parts of 10 MiB where the server says that it takes such, as ours
does; MLflow's own server takes a folder's files whole.  Bytes are random, so nothing is spared.
Both servers are started by their commands on empty folders, one after the other.  ``peak_mib``
is the largest resident set of the server's processes, from the kernel's own count.

The size in MiB may be given: ``python -m benchmarks.scenarios.large_artifacts 256``.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import write_result
from benchmarks.tracking.servers import Kind, Running, make_kinds, started, tree

_MIB = 1 << 20
_SIZE_MIB = 1024
_BLOCK_MIB = 16


def run(size_mib: int = _SIZE_MIB) -> dict[str, object]:
    """Measure both servers."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "weights.bin"
        digest = _make(source, size_mib)
        return {
            "size_mib": size_mib,
            **{
                kind.name: _measure(kind, source, digest)
                for kind in make_kinds(Path(folder) / "servers")
            },
        }


def _measure(kind: Kind, source: Path, digest: str) -> dict[str, float]:
    with started(kind) as server:
        figures = {"idle_mib": _peak_mib(server)}
        figures |= _transfer(server, source, digest)
        figures["peak_mib"] = _peak_mib(server)
    return figures


def _transfer(server: Running, source: Path, digest: str) -> dict[str, float]:
    import mlflow
    from mlflow import MlflowClient

    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    mlflow.set_tracking_uri(server.address)
    client = MlflowClient()
    run_id = client.create_run("0").info.run_id
    figures: dict[str, float] = {}

    def noted(what: str, began: float) -> None:
        figures[what] = round(time.perf_counter() - began, 2)
        figures[f"{what}_peak_mib"] = _peak_mib(server)

    began = time.perf_counter()
    client.log_artifact(run_id, str(source), "model")
    noted("upload_seconds", began)
    for what, is_in_ranges in (("download_seconds", "false"), ("ranges_seconds", "true")):
        os.environ["MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD"] = is_in_ranges
        with tempfile.TemporaryDirectory() as target:
            began = time.perf_counter()
            found = client.download_artifacts(run_id, f"model/{source.name}", target)
            noted(what, began)
            if _digest(Path(found)) != digest:
                raise AssertionError("another file came back")
    return figures


def _make(path: Path, size_mib: int) -> str:
    with path.open("wb") as stream:
        for _ in range(0, size_mib, _BLOCK_MIB):
            stream.write(os.urandom(_BLOCK_MIB * _MIB))
    return _digest(path)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _peak_mib(server: Running) -> float:
    """Return the largest resident sets of a server's processes, added up."""
    total = 0
    for pid in tree(server.pid):
        try:
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        except OSError:
            continue
        total += sum(
            int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")
        )
    return round(total / 1024, 1)


if __name__ == "__main__":
    measured = run(int(sys.argv[1]) if len(sys.argv) > 1 else _SIZE_MIB)
    print(json.dumps(measured, indent=2), write_result("large_artifacts", measured))
