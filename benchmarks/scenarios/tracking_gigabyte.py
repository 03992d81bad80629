"""An artifact of 1 GiB in parts through the unmodified MLflow client: time, memory, disk.

By hand: ``python -m benchmarks.scenarios.tracking_gigabyte 1024``.

The client sends parts of 100 MiB to signed addresses and fetches the file again; the peak
memory of the server's process is what Linux says of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

from benchmarks.measure import write_result
from benchmarks.tracking.servers import make_kinds, started

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
os.environ["MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD"] = "true"
os.environ["MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE"] = str(100 * 2**20)
os.environ["MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE"] = str(100 * 2**20)
warnings.filterwarnings("ignore")

from mlflow.tracking import MlflowClient  # noqa: E402 - after its settings

_MIB = 2**20


def run(size_mib: int = 1024) -> dict[str, object]:
    """Send and fetch a file of random bytes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "weights.bin"
        with path.open("wb") as file:
            for _ in range(size_mib):
                file.write(os.urandom(_MIB))
        sent = _digest(path)
        with started(make_kinds(folder)[0]) as running:
            client = MlflowClient(running.address, running.address)
            run_id = client.create_run("0").info.run_id
            before = _peak_mib(running.pid)
            began = time.monotonic()
            client.log_artifact(run_id, str(path), "model")
            put = time.monotonic() - began
            path.unlink()
            (folder / "got").mkdir()
            began = time.monotonic()
            fetched = Path(client.download_artifacts(run_id, "model/weights.bin", f"{name}/got"))
            got = time.monotonic() - began
            is_equal = _digest(fetched) == sent
            peak = _peak_mib(running.pid)
    return {
        "size_mib": size_mib,
        "put_s": round(put, 1),
        "get_s": round(got, 1),
        "is_equal": is_equal,
        "server_peak_mib": {"before": before, "after": peak},
        "load_average_at_end": [round(value, 2) for value in os.getloadavg()],
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _peak_mib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    result = run(int(sys.argv[1]) if sys.argv[1:] else 1024)
    print(json.dumps(result, indent=2))
    if len(sys.argv) == 1:
        write_result("tracking_gigabyte", result)
