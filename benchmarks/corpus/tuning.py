"""Really fine-tuning: contrastive learning on sentences that stand next to each other.

The text is the documentation inside Python's standard library, a part of it for each subject,
so every fine-tune learns something else and no data need be fetched.
"""

from __future__ import annotations

import ast
import re
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.corpus.minilm import WordPieces, embed

SUBJECTS: Final = {
    "network": ("asyncio", "http", "urllib", "email", "smtplib.py", "ssl.py", "socketserver.py"),
    "markup": ("xml", "html", "json", "csv.py", "configparser.py", "plistlib.py"),
    "windows": ("tkinter", "idlelib", "turtle.py", "turtledemo"),
    "checking": ("unittest", "doctest.py", "pdb.py", "inspect.py", "typing.py", "dataclasses.py"),
    "processes": ("multiprocessing", "concurrent", "threading.py", "subprocess.py", "queue.py"),
    "numbers": ("statistics.py", "decimal.py", "_pydecimal.py", "random.py", "fractions.py"),
    "files": ("pathlib.py", "shutil.py", "tarfile.py", "zipfile.py", "os.py", "tempfile.py"),
    "packaging": ("importlib", "logging", "distutils", "argparse.py", "ctypes", "sqlite3"),
}
_TEMPERATURE: Final = 0.05
_SHORTEST: Final = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How long and how hard.

    Attributes:
        steps: How often the weights change.
        pairs: How many pairs of sentences are looked at for each change.
        rate: The learning rate at the start.
    """

    steps: int
    pairs: int
    rate: float


def fine_tune(
    weights: Mapping[str, Tensor],
    pieces: WordPieces,
    subject: str,
    training: Training,
    *,
    seen: Callable[[int, Mapping[str, Tensor], torch.optim.Optimizer], None] | None = None,
) -> dict[str, Tensor]:
    """Return what AdamW makes of the weights with a linearly falling rate.

    Args:
        weights: The start; left as it is.
        pieces: The tokenizer.
        subject: Which part of the text.
        training: How long and how hard.
        seen: Called after every step with its number, the weights and the optimizer.
    """
    torch.manual_seed(sorted(SUBJECTS).index(subject))
    tuned = {name: tensor.clone() for name, tensor in weights.items()}
    trained = [tensor.requires_grad_() for tensor in tuned.values() if tensor.is_floating_point()]
    optimizer = torch.optim.AdamW(trained, lr=training.rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, training.steps)
    neighbours = list(pairwise(_sentences(subject)))
    targets = torch.arange(training.pairs)
    for step in range(training.steps):
        chosen = [neighbours[i] for i in torch.randint(len(neighbours), (training.pairs,))]
        first, second = (embed(tuned, *pieces(side)) for side in zip(*chosen, strict=True))
        optimizer.zero_grad()
        functional.cross_entropy(first @ second.T / _TEMPERATURE, targets).backward()
        optimizer.step()
        schedule.step()
        if seen is not None:
            seen(step + 1, tuned, optimizer)
    return {name: tensor.detach() for name, tensor in tuned.items()}


def _sentences(subject: str) -> list[str]:
    library = Path(sysconfig.get_path("stdlib"))
    found: list[str] = []
    for name in SUBJECTS[subject]:
        path = library / name
        for source in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            for text in _documentation(source):
                parts = re.split(r"(?<=[.!?])\s+|\n\s*\n", text)
                sentences = (" ".join(part.split()) for part in parts)
                found += [sentence for sentence in sentences if len(sentence) >= _SHORTEST]
    return found


def _documentation(source: Path) -> Iterator[str]:
    if not source.exists():
        return
    try:
        tree = ast.parse(source.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""
