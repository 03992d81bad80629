"""What real models, their fine-tunes and data take in the store, beside five other ways.

The corpus is built the first time (some ten minutes of training); see ``benchmarks.corpus``.
Set by set, every way in turn keeps all versions and gives them back, in processes of its own.
Ways that are not installed are left out, and the figures say so.  With ``quick`` only a few
sets, this store and Xet.  ``only=SET`` and ``ways=a,b`` narrow it further.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.corpus.build import SETS, corpus_sets
from benchmarks.corpus.place import corpus_folder
from benchmarks.keepers import KEEPERS

_QUICK_SETS: Final = ("hot bf16", "three number formats", "growing csv", "growing parquet")
_QUICK_WAYS: Final = ("ours", "xet")

GOALS: Final = {
    "fp32 family": 0.32,
    "bf16 family": 0.155,
    "hot bf16": 0.43,
    "hot fp32": 0.66,
    "three number formats": 0.42,
    "trainer state": 0.42,
    "three containers": 0.18,
    "growing csv": 0.18,
    "growing parquet": 0.39,
    "growing parquet cut by content": 0.29,
    "forests": 0.22,
}


def run(
    *, is_quick: bool = False, only: tuple[str, ...] = (), ways: tuple[str, ...] = ()
) -> dict[str, object]:
    """Measure every set; return the figures by set and way."""
    names = only or (_QUICK_SETS if is_quick else SETS)
    sets = corpus_sets(names)
    chosen = ways or (_QUICK_WAYS if is_quick else tuple(KEEPERS))
    obstacles = {way: KEEPERS[way].obstacle() for way in chosen}
    figures: dict[str, object] = {way: reason for way, reason in obstacles.items() if reason}
    for name in names:
        raw_bytes = sum(file.stat().st_size for path in sets[name] for file in path.iterdir())
        of_set: dict[str, object] = {"raw_bytes": raw_bytes, "goal_share": GOALS.get(name)}
        for way in chosen:
            if not obstacles[way]:
                of_set[way] = measured = _measure(way, sets[name])
                print(f"{name:32} {way:8} {json.dumps(measured)}", file=sys.stderr, flush=True)
        figures[name] = of_set
    return figures


def _measure(way: str, versions: list[Path]) -> dict[str, object]:
    # Beside the corpus, so that both are on the same disk, which need not be that of /tmp.
    with tempfile.TemporaryDirectory(dir=corpus_folder()) as folder:
        store, target = Path(folder) / "store", Path(folder) / "given-back"
        store.mkdir()
        kept = _process(way, "keep", store, target, versions)
        given = _process(way, "give-back", store, target, versions)
    return {"stored_share": kept.pop("stored_share"), "ingest": kept, "retrieve": given}


def _process(
    way: str, action: str, store: Path, target: Path, versions: list[Path]
) -> dict[str, float]:
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.keepers", way, action, store, target, *versions],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    figures: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return figures


if __name__ == "__main__":
    words = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
    named = {key: tuple(value.split(",")) for key, value in words.items()}
    print(json.dumps(run(is_quick="quick" in sys.argv, **named), indent=2))
