"""What a process says of itself: its command, its cells, its own modules."""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from stemma.domain.errors import InvalidInputError
from stemma.sdk.adapters.base import array_digest, class_path, defining_source
from stemma.sdk.process import is_recording_rank, read_process
from stemma.sdk.sources import LoadedSources


@pytest.mark.parametrize("text", ["not json", '{"a": 1}', '["python", 3]'])
def test_a_command_that_is_none_is_refused(text: str) -> None:
    """A version would say that it was made by nonsense."""
    with pytest.raises(InvalidInputError, match="STEMMA_COMMAND is not"):
        read_process({"STEMMA_COMMAND": text})


def test_the_command_of_stemma_run_wins_over_the_processes_own() -> None:
    """A launcher's internals would stand where the user's command belongs."""
    facts = read_process({"STEMMA_COMMAND": '["python", "train.py"]', "STEMMA_REASON": "why"})
    assert facts.command == ("python", "train.py")
    assert facts.reason == "why"
    assert read_process({}).command[0] == "python"


def test_only_rank_zero_records() -> None:
    """Eight processes of one training would make eight runs."""
    assert is_recording_rank({"RANK": "0", "LOCAL_RANK": "1"})
    assert not is_recording_rank({"LOCAL_RANK": "1"})
    assert is_recording_rank({"RANK": "none"})


def test_cells_of_a_notebook_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook's run would have no code."""
    shell = SimpleNamespace(user_ns={"In": ["", "x = 1", " ", "train()"]})
    main = ModuleType("__main__")
    main.__dict__["get_ipython"] = lambda: shell
    monkeypatch.setitem(sys.modules, "__main__", main)
    facts = read_process({})
    assert facts.cells == ("x = 1", "train()")
    assert facts.entry_point is None


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the user's that is imported."""
    (tmp_path / "own_module.py").write_text(
        "import functools\n"
        "class Net:\n"
        "    class Block:\n"
        "        width = 2\n"
        "@functools.cache\n"
        "def scale():\n"
        "    class Inner:\n"
        "        height = 3\n"
        "    return Inner\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    # Set first, so that the test's own import is taken back with it.
    monkeypatch.setitem(sys.modules, "own_module", ModuleType("own_module"))
    del sys.modules["own_module"]
    return importlib.import_module("own_module")


def test_source_of_a_class_is_what_ran_although_its_file_was_edited(
    own: ModuleType, tmp_path: Path
) -> None:
    """The architecture would be that of the next training."""
    file = (tmp_path / "own_module.py").resolve()
    kept = tmp_path / "kept.py"
    kept.write_bytes(file.read_bytes())
    objects = [own.Net, own.Net.Block, own.scale.__wrapped__, own.scale(), int, {"a": 1}.get]
    unedited, modules = defining_source(objects, {file: kept})
    assert modules == (file,)
    file.write_text("# edited\nclass Net:\n    depth = 9\n")
    edited, _ = defining_source(objects, {file: kept})
    assert edited == unedited
    assert edited["own_module.Net.Block"] == "    class Block:\n        width = 2\n"
    assert edited["own_module.scale"].startswith("@functools.cache\ndef scale")
    assert edited["own_module.scale.<locals>.Inner"].endswith("height = 3\n")
    kept.write_text("")
    assert defining_source([own.Net], {file: kept})[0] == {"own_module.Net": ""}


def test_an_edit_between_two_runs_of_one_process_is_not_what_ran(
    own: ModuleType, tmp_path: Path
) -> None:
    """The later runs of a sweep would be recorded with a script they never ran."""
    sources = LoadedSources([tmp_path])
    [file] = [path for path in sources.files() if path.name == "own_module.py"]
    ran = sources.read(file)
    file.write_bytes(b"edited")
    again = LoadedSources([tmp_path])
    again.files()
    assert again.read(file) == ran
    own.__spec__ = ModuleSpec("own_module", None)  # As a reload does.
    again.files()
    assert again.read(file) == b"edited"
    other = tmp_path / "other.txt"
    other.write_bytes(b"not loaded")
    assert again.read(other) == b"not loaded"


def test_a_class_has_its_shortest_name() -> None:
    """One class would be two, by the way it was imported."""
    assert class_path(ModuleType) == "builtins.module"


def test_padding_and_width_do_not_count_in_arrays() -> None:
    """Two equal models would differ in bytes nobody set."""
    np = pytest.importorskip("numpy")
    kind = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    first, second = np.zeros(2, dtype=kind), np.zeros(2, dtype=kind)
    second.view("u1")[1] = 7
    assert array_digest(first) == array_digest(second)
    assert array_digest(np.array(["a"])) == array_digest(np.array(["a"], dtype="U9"))
