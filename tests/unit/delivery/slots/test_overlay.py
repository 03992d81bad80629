"""Wrong here: the runtime's packages displace the version's, or need a network."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stemma.delivery.layout import ServeLayout
from stemma.delivery.slots.environments import ensure_environment, is_built
from stemma.delivery.slots.overlay import LAUNCHER, ensure_overlay
from stemma.domain.errors import UnavailableError

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
IDENTITY = "blake3:" + "cd" * 32
_NEEDED = "stemma.domain.manifest, uvicorn, h11, httptools, uvloop, msgspec, blake3, numpy, click"


@pytest.fixture
def layout(tmp_path: Path) -> ServeLayout:
    """An empty serving folder."""
    return ServeLayout(state=tmp_path / ".stemma")


def test_the_overlay_of_our_python_is_links_and_is_made_once(layout: ServeLayout) -> None:
    """A server without a network could not start anything."""
    overlay = ensure_overlay(MINOR, layout)
    found = {path.name for path in overlay.iterdir()}
    assert {"stemma", "uvicorn", "typing_extensions.py", LAUNCHER} <= found
    assert all(path.is_symlink() for path in overlay.iterdir() if path.name != LAUNCHER)
    inode = overlay.stat().st_ino
    assert ensure_overlay(MINOR, layout).stat().st_ino == inode
    assert [path.name for path in overlay.parent.iterdir()] == [overlay.name]


def test_an_overlay_that_lost_something_is_made_again(layout: ServeLayout) -> None:
    """An upgrade that moved a package would break every later start."""
    overlay = ensure_overlay(MINOR, layout)
    (overlay / "uvicorn").unlink()
    (overlay / "uvicorn").symlink_to("/nowhere")
    assert (ensure_overlay(MINOR, layout) / "uvicorn" / "__init__.py").exists()


@pytest.mark.slow
def test_in_a_bare_environment_the_overlay_gives_what_the_runtime_needs(
    layout: ServeLayout, tmp_path: Path
) -> None:
    """A model process would not find its own runtime, or would use another than its version's."""
    python = ensure_environment("# python 3.11\n", IDENTITY, MINOR, layout, is_offline=True)
    assert is_built(layout, IDENTITY)
    assert ensure_environment("# python 3.11\n", IDENTITY, MINOR, layout, is_offline=True) == python
    own = next((python.parent.parent / "lib").glob("python*/site-packages")) / "httptools.py"
    own.write_text("ORIGIN = 'version'\n")
    overlay = ensure_overlay(MINOR, layout)
    code = (
        f"import sys; sys.path.append({str(overlay)!r}); import {_NEEDED}; print(httptools.ORIGIN)"
    )
    found = subprocess.run(
        [python, "-I", "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert found.stdout == "version\n", found.stderr


@pytest.mark.slow
def test_the_launcher_runs_the_model_process_from_the_slot_folder(
    layout: ServeLayout, tmp_path: Path
) -> None:
    """Every start would fail before the runtime could say why."""
    python = ensure_environment("# python 3.11\n", IDENTITY, MINOR, layout, is_offline=True)
    launcher = ensure_overlay(MINOR, layout) / LAUNCHER
    specification = tmp_path / "specification.json"
    specification.write_text("{}")
    found = subprocess.run(
        [python, "-I", "-B", launcher, specification, "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 5
    assert found.stderr.splitlines()[-1].startswith("stemma: bad-specification: ")


@pytest.mark.slow
def test_an_environment_that_was_killed_or_lost_its_interpreter_does_not_count(
    layout: ServeLayout,
) -> None:
    """Readiness would promise a rollback that cannot be done."""
    ensure_environment("# python 3.11\n", IDENTITY, MINOR, layout, is_offline=True)
    shutil.rmtree(layout.environment(IDENTITY) / "bin")
    assert not is_built(layout, IDENTITY)
    ensure_environment("# python 3.11\n", IDENTITY, MINOR, layout, is_offline=True)
    assert is_built(layout, IDENTITY)


@pytest.mark.slow
def test_a_package_that_is_nowhere_is_said(
    layout: ServeLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start would fail later, with a missing import."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))
    lock = "# python 3.11\nno-such-package-of-ours==1.0\n"
    with pytest.raises(UnavailableError, match="no network"):
        ensure_environment(lock, IDENTITY, MINOR, layout, is_offline=True)
    assert not is_built(layout, IDENTITY)


@pytest.mark.slow
def test_another_python_needs_packages_of_its_own_and_says_when_it_cannot_have_them(
    layout: ServeLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version of an older Python would fail with a module that cannot be loaded."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))
    with pytest.raises(UnavailableError, match=r"Python 3\.8 cannot be installed: no network"):
        ensure_overlay("3.8", layout, is_offline=True)
    assert list((layout.root / "overlay").iterdir()) == []
