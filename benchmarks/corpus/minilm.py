"""all-MiniLM-L6-v2 as plain functions on a dictionary of tensors, and its tokenizer.

The tensors keep the names and shapes of the published file, so that what is saved after
training is what others would have saved.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

LAYERS: Final = 6
_HEADS: Final = 12
_EPSILON: Final = 1e-12
_LENGTH: Final = 32
_WORD: Final = re.compile(r"[a-z0-9]+|[^a-z0-9\s]")


class WordPieces:
    """Cuts text into the pieces of the model's vocabulary."""

    def __init__(self, vocabulary: Path) -> None:
        """Read a ``vocab.txt``."""
        lines = vocabulary.read_text(encoding="utf-8").splitlines()
        self._numbers = {piece: number for number, piece in enumerate(lines)}

    def __call__(self, sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return numbers of pieces, padded to the longest, and where they are no padding."""
        rows = [self._row(sentence) for sentence in sentences]
        width = max(map(len, rows))
        numbers = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        return numbers, numbers != 0

    def _row(self, sentence: str) -> list[int]:
        pieces = [piece for word in _WORD.findall(sentence.lower()) for piece in self._pieces(word)]
        return [self._numbers["[CLS]"], *pieces[: _LENGTH - 2], self._numbers["[SEP]"]]

    def _pieces(self, word: str) -> Iterator[int]:
        start, mark = 0, ""
        while start < len(word):
            ends = range(len(word), start, -1)
            end = next((end for end in ends if mark + word[start:end] in self._numbers), 0)
            if not end:
                yield self._numbers["[UNK]"]
                return
            yield self._numbers[mark + word[start:end]]
            start, mark = end, "##"


def embed(weights: Mapping[str, Tensor], numbers: Tensor, mask: Tensor) -> Tensor:
    """Return one vector of length one for each row of piece numbers."""
    hidden = weights["embeddings.word_embeddings.weight"][numbers]
    hidden = hidden + weights["embeddings.position_embeddings.weight"][: numbers.shape[1]]
    hidden = hidden + weights["embeddings.token_type_embeddings.weight"][0]
    hidden = _normed(weights, "embeddings.LayerNorm", hidden)
    for layer in range(LAYERS):
        hidden = _layer(weights, f"encoder.layer.{layer}", hidden, mask)
    kept = mask.unsqueeze(2).to(hidden.dtype)
    return functional.normalize((hidden * kept).sum(1) / kept.sum(1), dim=1)


def _layer(weights: Mapping[str, Tensor], name: str, hidden: Tensor, mask: Tensor) -> Tensor:
    rows, width, size = hidden.shape
    query, key, value = (
        _linear(weights, f"{name}.attention.self.{part}", hidden)
        .view(rows, width, _HEADS, size // _HEADS)
        .transpose(1, 2)
        for part in ("query", "key", "value")
    )
    attended = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask[:, None, None, :]
    )
    attended = attended.transpose(1, 2).reshape(rows, width, size)
    attended = _linear(weights, f"{name}.attention.output.dense", attended)
    hidden = _normed(weights, f"{name}.attention.output.LayerNorm", hidden + attended)
    inner = functional.gelu(_linear(weights, f"{name}.intermediate.dense", hidden))
    outer = _linear(weights, f"{name}.output.dense", inner)
    return _normed(weights, f"{name}.output.LayerNorm", hidden + outer)


def _linear(weights: Mapping[str, Tensor], name: str, values: Tensor) -> Tensor:
    return functional.linear(values, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _normed(weights: Mapping[str, Tensor], name: str, values: Tensor) -> Tensor:
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return functional.layer_norm(values, weight.shape, weight, bias, _EPSILON)
