"""Environments: what is captured, and what uv is asked."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from stemma.catalog.capture.environment import capture_environment
from stemma.catalog.capture.locks import (
    PinnedPackage,
    has_all_hashes,
    make_lock,
    read_pins,
    read_python,
    split_lock,
)
from stemma.catalog.capture.origin import read_origin
from stemma.catalog.capture.resolving import conflict_between, fit_environment, parse_requirement
from stemma.catalog.capture.restoring import restore_environment
from stemma.catalog.capture.uv import UvAnswer, ask_uv
from stemma.domain.errors import (
    ConflictError,
    IntegrityError,
    InvalidInputError,
    UnavailableError,
)

LOCK = """# python 3.11
numpy==2.4.6 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
scikit-learn==1.9.1 \\
    --hash=sha256:cc
"""


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty uv cache, so that no answer depends on what this machine has fetched."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    return tmp_path


@pytest.mark.slow
def test_packages_are_the_closure_of_what_was_imported(offline: Path) -> None:
    """A restored environment would lack a dependency, or carry every tool of the laptop."""
    found = capture_environment(
        ["Scikit_Learn", "pytest", "sqlalchemy"], offline, allow_network=False, loader="sklearn"
    )
    names = [package.name for package in found.packages]
    assert names == sorted(names)
    assert {"scikit-learn", "numpy", "scipy", "joblib", "threadpoolctl", "skops"} <= set(names)
    assert not {"pytest", "sqlalchemy", "stemma-ml", "pip", "pluggy"} & set(names)
    version = importlib.metadata.version("scikit-learn")
    major, minor, *_ = version.split(".")
    assert f"scikit-learn>={major}.{minor},<{int(major) + 1}" in found.requirements
    assert found.python.startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert read_pins(found.lock_text)["scikit-learn"] == version


@pytest.mark.slow
def test_without_network_the_lock_has_no_hashes_and_says_why(offline: Path) -> None:
    """Recording on a train would fail, or pretend that the lock is complete."""
    found = capture_environment(["numpy"], offline, allow_network=False)
    assert not found.has_hashes
    assert any("no network" in note for note in found.notes)
    assert "://" not in found.lock_text
    again = capture_environment(["numpy"], offline, allow_network=False)
    assert again == found


@pytest.mark.slow
def test_declared_ranges_win_over_inferred_ones(offline: Path) -> None:
    """The project's own statement of what it supports would be ignored."""
    (offline / "pyproject.toml").write_text(
        '[project]\nname = "mine"\ndependencies = ["numpy>=2,<4", "not-installed-xyz", '
        "\"joblib; python_version < '3'\"]\n",
        encoding="utf-8",
    )
    found = capture_environment([], offline, project_root=offline, allow_network=False)
    assert [parse_requirement(text).name for text in found.requirements] == ["numpy"]
    assert parse_requirement(found.requirements[0]) == parse_requirement("numpy>=2,<4")


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "[project", "project = 3", "\x00"])
def test_a_broken_pyproject_does_not_stop_recording(offline: Path, text: str) -> None:
    """A typo in a file we only look at would lose a training."""
    (offline / "pyproject.toml").write_text(text, encoding="utf-8")
    (offline / "requirements.txt").write_text(
        "-r other.txt\n# c\nnumpy>=2  # why\n--index-url https://u:p@example.org\n",
        encoding="utf-8",
    )
    found = capture_environment([], offline, project_root=offline, allow_network=False)
    assert found.requirements == ("numpy>=2",)


def test_an_empty_environment_is_a_lock_of_nothing(tmp_path: Path) -> None:
    """A script of the standard library alone could not be recorded."""
    found = capture_environment([], tmp_path)
    assert (found.packages, found.requirements, found.notes) == ((), (), ())


def test_only_what_own_modules_use_counts_as_imported(tmp_path: Path) -> None:
    """A library found by another one would become part of every model."""
    script = tmp_path / "script.py"
    script.write_text(
        "import alembic\n"  # imports sqlalchemy and mako for itself
        "from stemma.catalog.capture.imports import imported_distributions\n"
        "print(*sorted(imported_distributions()))\n",
        encoding="utf-8",
    )
    # In a process of its own: in this one every test module counts as the user's.
    result = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["alembic"]


def test_packages_from_folders_and_repositories_are_named_with_their_source(
    tmp_path: Path,
) -> None:
    """A lock would claim that an edited local package comes from the index."""
    cases = {
        (
            '{"url": "https://u:p@example.org/a.git", '
            '"vcs_info": {"vcs": "git", "commit_id": "abc"}}'
        ): "git+https://example.org/a.git@abc",
        '{"url": "https://example.org/a.whl", "archive_info": {}}': "https://example.org/a.whl",
        '{"url": "file:///wheels/a.whl", "archive_info": {}}': "",
        "{": "",
        "[]": "",
    }
    for number, (record, address) in enumerate(cases.items()):
        folder = tmp_path / f"a-{number}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Name: a\nVersion: 1\n", encoding="utf-8")
        (folder / "direct_url.json").write_text(record, encoding="utf-8")
        assert read_origin(importlib.metadata.PathDistribution(folder)).address == address
    own = read_origin(importlib.metadata.distribution("stemma-ml"))
    assert own.is_editable
    assert own.folder is not None


def test_a_local_package_is_a_comment_in_the_lock(tmp_path: Path) -> None:
    """Restoring would ask the index for a package it never had."""
    pins = [PinnedPackage("mine", "", "mine==1.0 (editable)")]
    lock = make_lock(pins, "3.11.7", tmp_path)
    assert lock.text == "# python 3.11\n# mine==1.0 (editable)\n"
    assert read_pins(lock.text) == {}
    assert read_python(lock.text) == "3.11"


def test_locks_are_read_back() -> None:
    """The environment check would compare against nothing."""
    assert read_pins(LOCK) == {"numpy": "2.4.6", "scikit-learn": "1.9.1"}
    assert has_all_hashes(LOCK)
    assert not has_all_hashes(LOCK + "torch==2.13.0+cpu\n")
    assert not has_all_hashes("")


def test_requirements_that_the_lock_meets_need_no_resolver() -> None:
    """Every release would wait for the network."""
    fit = fit_environment(["numpy>=2,<3", "Scikit.Learn"], LOCK, is_offline=True)
    assert (fit.does_resolve, fit.changed, fit.conflict) == (True, (), "")


@pytest.mark.slow
def test_a_requirement_the_pin_breaks_is_named(offline: Path) -> None:
    """The user would know that it does not fit, but not why."""
    fit = fit_environment(["numpy<2"], LOCK, is_offline=True)
    assert fit.does_resolve is False
    assert "numpy<2" in fit.conflict
    assert "numpy==2.4.6" in fit.conflict
    assert "\n" not in fit.conflict


@pytest.mark.slow
def test_what_cannot_be_found_out_offline_is_not_called_a_conflict(offline: Path) -> None:
    """No network would read as a breaking change."""
    assert fit_environment(["tqdm"], LOCK, is_offline=True).does_resolve is None


def test_a_requirement_that_is_none_is_refused() -> None:
    """A typo would be passed on to uv as a file name."""
    with pytest.raises(InvalidInputError, match="not a requirement"):
        fit_environment(["-r /etc/passwd"], LOCK)


def test_uv_answers_lose_decoration_and_addresses() -> None:
    """An error line would carry an index address with its token."""
    answer = UvAnswer(
        has_succeeded=False,
        output="",
        complaint="  × No solution\n  ╰─▶ Because https://u:p@example.org/x says no\n",
    )
    assert answer.reason == "No solution Because (address) says no"


@pytest.mark.slow
def test_a_killed_restore_is_done_again_and_a_complete_one_reused(offline: Path) -> None:
    """A half-made environment would be used for serving."""
    target = offline / "envs" / "a"
    interpreter = restore_environment("# python 3.11\n", target, sys.version.split()[0])
    assert interpreter.exists()
    made_at = (target / "pyvenv.cfg").stat().st_mtime_ns
    restore_environment("# python 3.11\n", target, sys.version.split()[0])
    assert (target / "pyvenv.cfg").stat().st_mtime_ns == made_at
    (target / ".stemma-complete").unlink()
    (target / ".stemma-building").touch()
    restore_environment("# python 3.11\n", target, sys.version.split()[0])
    assert (target / "pyvenv.cfg").stat().st_mtime_ns != made_at
    assert not (target / ".stemma-building").exists()


def test_a_folder_of_the_users_is_never_touched(tmp_path: Path) -> None:
    """``checkout --env`` into the wrong folder would delete the user's files."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").touch()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    for name in ("mine", "file", "link"):
        with pytest.raises(ConflictError, match="no environment Stemma made"):
            restore_environment("", tmp_path / name, "3.11")
    assert (tmp_path / "mine/file").exists()


def _wheel(folder: Path, name: str, version: str) -> Path:
    """Write an installable wheel of one module."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(offline: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index in a folder that has ``plain`` 1.0 and 2.0, and nothing else."""
    for version in ("1.0", "2.0"):
        folder = offline / "index" / "plain"
        folder.mkdir(parents=True, exist_ok=True)
        wheel = _wheel(folder, "plain", version)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        with (folder / "index.html").open("a", encoding="utf-8") as page:
            page.write(f'<a href="{wheel.name}#sha256={digest}">{wheel.name}</a>\n')
    monkeypatch.setenv("UV_DEFAULT_INDEX", (offline / "index").as_uri())
    for name in ("UV_INDEX", "UV_FIND_LINKS", "UV_TORCH_BACKEND", "UV_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    return offline / "index"


@pytest.mark.slow
def test_one_package_of_no_index_leaves_the_others_their_hashes(
    index: Path, offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CPU build of torch would cost every other package its hash, and warn at every run."""
    pins = [PinnedPackage("plain", "plain==1.0"), PinnedPackage("torch", "torch==2.0+cpu")]
    lock = make_lock(pins, "3.11.7", offline)
    assert not lock.has_hashes
    assert "no hash in the lock for torch" in lock.note
    assert "UV_TORCH_BACKEND=cpu" in lock.note
    assert "# without a hash, no configured index has it: torch==2.0+cpu\n" in lock.text
    assert read_pins(lock.text) == {"plain": "1.0", "torch": "2.0+cpu"}
    hashed, bare = split_lock(lock.text)
    assert hashed.startswith("plain==1.0 \\\n    --hash=sha256:")
    assert bare == "torch==2.0+cpu\n"
    assert make_lock(pins, "3.11.7", offline) == lock._replace(note="")
    wheels = offline / "wheels"
    wheels.mkdir()
    _wheel(wheels, "torch", "2.0+cpu")
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))
    interpreter = restore_environment(lock.text, offline / "env", sys.version.split()[0])
    subprocess.run([interpreter, "-c", "import plain, torch"], check=True)


@pytest.mark.slow
def test_a_local_version_that_an_index_has_is_hashed(index: Path, offline: Path) -> None:
    """Naming torch's own index would change nothing."""
    folder = index / "torch"
    folder.mkdir()
    wheel = _wheel(folder, "torch", "2.0+cpu")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    page = f'<a href="{wheel.name}#sha256={digest}">{wheel.name}</a>'
    (folder / "index.html").write_text(page, encoding="utf-8")
    lock = make_lock([PinnedPackage("torch", "torch==2.0+cpu")], "3.11.7", offline)
    assert lock == (f"# python 3.11\ntorch==2.0+cpu \\\n    --hash=sha256:{digest}\n", True, "")


@pytest.mark.slow
def test_what_a_newer_requirement_changes_in_a_lock_is_named(index: Path) -> None:
    """Two models in one environment would surprise each other."""
    lock = "# python 3.11\nplain==1.0\n"
    fit = fit_environment(["plain>=1"], lock)
    assert (fit.does_resolve, fit.changed) == (True, ())
    clash = fit_environment(["plain>=2"], lock)
    assert clash.does_resolve is False
    assert "plain" in clash.conflict
    assert fit_environment(["plain"], "# python 3.11\n").changed == ("plain 2.0 (new)",)


@pytest.mark.slow
def test_a_conflict_between_two_models_is_one_line(index: Path) -> None:
    """The user would read a page of the resolver's output."""
    assert conflict_between(["plain>=1"], ["plain<2"], python="3.11.7") == ""
    assert conflict_between([], []) == ""
    found = conflict_between(["plain>=2"], ["plain<2"])
    assert "plain" in found
    assert "\n" not in found


@pytest.mark.slow
def test_whether_two_models_fit_is_not_guessed_without_a_network(
    offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conflict would be reported, or denied, that nobody looked for."""
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
    with pytest.raises(UnavailableError, match="cannot be found out"):
        conflict_between(["numpy>=2"], ["numpy<9"], is_offline=True)


def test_without_the_program_or_an_answer_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording would hang, or end in a traceback."""
    with pytest.raises(UnavailableError, match="gave no answer in 0 s"):
        ask_uv(["--version"], timeout_seconds=0)


@pytest.mark.slow
def test_other_bytes_than_were_locked_are_not_installed(index: Path, offline: Path) -> None:
    """A package that was replaced on the index would be served."""
    lock = make_lock([PinnedPackage("plain", "plain==1.0")], "3.11.7", offline)
    second = hashlib.sha256((index / "plain" / "plain-2.0-py3-none-any.whl").read_bytes())
    first = hashlib.sha256((index / "plain" / "plain-1.0-py3-none-any.whl").read_bytes())
    changed = lock.text.replace(first.hexdigest(), second.hexdigest())
    with pytest.raises(IntegrityError, match="cannot be installed"):
        restore_environment(changed, offline / "env", sys.version.split()[0])


def test_what_reads_a_model_back_is_locked_with_it_and_only_it(offline: Path) -> None:
    """A torch model would carry skops because its script borrowed scikit-learn's data."""
    of_torch = capture_environment(["scikit-learn"], offline, allow_network=False, loader="torch")
    names = {package.name for package in of_torch.packages}
    assert "skops" not in names
    assert "safetensors" in names


def test_what_runs_an_exported_graph_is_locked_with_it(offline: Path) -> None:
    """A graph recorded by its file could not be served: nothing in its environment runs it."""
    of_onnx = capture_environment(["numpy"], offline, allow_network=False, loader="onnx")
    assert {"onnx", "onnxruntime"} <= {package.name for package in of_onnx.packages}


@pytest.mark.slow
def test_restoring_without_network_or_cache_says_so(offline: Path) -> None:
    """The user would read a page of uv's output instead of one line."""
    with pytest.raises(UnavailableError, match="no network") as caught:
        restore_environment(
            "numpy==2.4.6\n", offline / "e", sys.version.split()[0], is_offline=True
        )
    assert caught.value.is_retryable
    assert not (offline / "e" / ".stemma-complete").exists()


def test_a_read_only_place_is_one_clear_line(tmp_path: Path) -> None:
    """A traceback instead of the folder's name."""
    if os.geteuid() == 0:
        target = Path("/proc/stemma/e")
    else:
        tmp_path.chmod(0o500)
        target = tmp_path / "a" / "e"
    with pytest.raises(InvalidInputError):
        restore_environment("", target, "3.11")
