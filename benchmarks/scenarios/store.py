"""What a family of fine-tunes takes in the store, and how fast it goes in and comes out.

First part: a perceptron of 2.5 million parameters, really trained on the digits and really
fine-tuned six times from there (each with other data and a twentieth of the learning rate),
as float32 safetensors; then a bfloat16 copy.  Stored with the base as parent, and beside it
the same files as plain bytes cut by their content.  Each way in a process of its own, which
says how much its memory grew at most.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn

_FINE_TUNES = 6
_WIDTH = 1536
_LEARNING_RATE = 1e-3
_FINE_TUNING_RATE = 5e-5

_WAYS = """
import json, re, sys, time
from pathlib import Path
from stemma.store.backends.local import LocalBackend
from stemma.store.index import MemoryChunkIndex
from stemma.store.ingest import Batch
from stemma.store.objects import ObjectStore

root, way, names = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
backend, index = LocalBackend(root / f"store-{way}"), MemoryChunkIndex()
store, digests, seconds = ObjectStore(backend, index), [], []

def memory_kib(field):
    return int(re.search(field + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

before_kib = memory_kib("VmRSS")
for name in names:
    started = time.perf_counter()
    batch = Batch(backend, index)
    if way == "plain":
        with (root / name).open("rb") as stream:
            digests.append(batch.add_stream(stream).digest)
    else:
        digests.append(batch.add_path(root / name, parents=digests[::-1]).digest)
    batch.flush()
    seconds.append(time.perf_counter() - started)
raw = sum((root / name).stat().st_size for name in names)
stored = sum(stat.size_bytes for stat in backend.list())
reader, started = ObjectStore(backend, index), time.perf_counter()
read = sum(len(piece) for digest in digests for piece in reader.stream(digest))
read_seconds = time.perf_counter() - started
assert read == raw
print(json.dumps({
    "raw_bytes": raw,
    "stored_share": round(stored / raw, 4),
    "ingest_mb_per_second": round(raw / 1e6 / sum(seconds)),
    "retrieve_and_verify_mb_per_second": round(raw / 1e6 / read_seconds),
    "peak_memory_mib": (memory_kib("VmHWM") - before_kib) >> 10,
}))
"""


def run() -> dict[str, object]:
    """Train the family, then store it both ways in turn."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        names = _train(root)
        figures: dict[str, object] = {}
        for family, members in (("fp32", names[:-1]), ("fp32 and a bf16 copy", names)):
            for way in ("plain", "tensors"):
                figures[f"{family}, {way}"] = _store(root, way, members)
    return figures


def _store(root: Path, way: str, names: list[str]) -> dict[str, float]:
    answer = subprocess.run(
        [sys.executable, "-c", _WAYS, str(root), way, *names],
        capture_output=True,
        text=True,
        check=True,
    )
    subprocess.run(["rm", "-rf", str(root / f"store-{way}")], check=True)
    figures: dict[str, float] = json.loads(answer.stdout)
    return figures


def _train(root: Path) -> list[str]:
    """Train a base and fine-tunes of it; return the names of their files."""
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    inputs = torch.from_numpy((images / 16).astype("float32"))
    targets = torch.from_numpy(labels)
    model = nn.Sequential(
        nn.Linear(64, _WIDTH),
        nn.ReLU(),
        nn.Linear(_WIDTH, _WIDTH),
        nn.ReLU(),
        nn.Linear(_WIDTH, 10),
    )
    _fit(model, inputs, targets, _LEARNING_RATE, epochs=6)
    save_file(model.state_dict(), root / "base.safetensors")
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    names = ["base.safetensors"]
    for number in range(_FINE_TUNES):
        model.load_state_dict(base)
        part = torch.randperm(len(inputs))[: len(inputs) // 2]
        _fit(model, inputs[part], targets[part], _FINE_TUNING_RATE, epochs=2)
        names.append(f"tune-{number}.safetensors")
        save_file(model.state_dict(), root / names[-1])
    save_file(
        {name: tensor.to(torch.bfloat16) for name, tensor in base.items()},
        root / "half.safetensors",
    )
    return [*names, "half.safetensors"]


def _fit(
    model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, rate: float, *, epochs: int
) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for _ in range(epochs):
        for batch in torch.randperm(len(inputs)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[batch]), targets[batch]).backward()
            optimizer.step()
