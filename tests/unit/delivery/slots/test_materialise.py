"""Wrong here: a process serves from files that are not the version's."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stemma.delivery.layout import ServeLayout
from stemma.delivery.slots.materialise import (
    COMPLETE_MARK,
    is_materialised,
    materialise_version,
    verify_version,
)
from stemma.domain.component import (
    ArchitectureComponent,
    ArtifactComponent,
    DatasetsComponent,
    Environment,
    HyperparametersComponent,
    PipelineComponent,
)
from stemma.domain.digest import Digest
from stemma.domain.errors import IntegrityError
from stemma.domain.manifest import Evidence, Manifest, Provenance
from stemma.store.backends.local import LocalBackend
from stemma.store.index import MemoryChunkIndex
from stemma.store.objects import ObjectStore
from stemma.testing.loose_objects import make_loose

NAME = "sha256:" + "ab" * 32
WEIGHTS = random.Random(0).randbytes(1 << 20)
_NONE = Digest.blake3("0" * 64)


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    """An empty store."""
    return ObjectStore(LocalBackend(tmp_path / "objects"), MemoryChunkIndex())


@pytest.fixture
def layout(tmp_path: Path) -> ServeLayout:
    """An empty serving folder."""
    return ServeLayout(state=tmp_path / ".stemma")


@pytest.fixture
def manifest(objects: ObjectStore, tmp_path: Path) -> Manifest:
    """A version with two files of weights, and code with a link."""
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "weights.bin").write_bytes(WEIGHTS)
    (source / "deep" / "words.txt").write_text("a b c")
    (source / "train.py").write_text("print('training')\n")
    (source / "latest.py").symlink_to("train.py")
    artifact = objects.put_tree(source, ["weights.bin", "deep/words.txt"])
    code = objects.put_tree(source, ["train.py", "latest.py"])
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return Manifest(
        model="digits",
        architecture=ArchitectureComponent(
            identity=_NONE, content=code.digest, family="f", summary="s"
        ),
        datasets=DatasetsComponent(identity=_NONE),
        pipeline=PipelineComponent(identity=_NONE, content=code.digest),
        hyperparameters=HyperparametersComponent(identity=_NONE, content=_NONE),
        artifact=ArtifactComponent(identity=_NONE, content=artifact.digest),
        environment=Environment(identity=_NONE, lock=_NONE, python="3.11.7", platform="linux"),
        evidence=Evidence(),
        provenance=Provenance(run="r-1", started_at=moment, ended_at=moment, created_by="me"),
        metadata={},
    )


def test_a_version_is_written_whole_and_read_only(
    objects: ObjectStore, manifest: Manifest, layout: ServeLayout
) -> None:
    """A process would find files missing, or change what it is verified by."""
    folder = materialise_version(objects, manifest, NAME, layout)
    assert folder == layout.version(NAME)
    assert (folder / "artifact" / "deep" / "words.txt").read_text() == "a b c"
    assert (folder / "code" / "latest.py").read_text() == "print('training')\n"
    assert (folder / "artifact" / "weights.bin").stat().st_mode & 0o222 == 0
    assert (folder / "version.json").exists()
    assert not (folder / "golden.npz").exists()
    assert is_materialised(layout, NAME)
    assert verify_version(folder) == []


def test_a_sound_folder_is_used_again_without_the_store(
    objects: ObjectStore, manifest: Manifest, layout: ServeLayout, tmp_path: Path
) -> None:
    """A rollback would wait for files that are there."""
    folder = materialise_version(objects, manifest, NAME, layout)
    inode = (folder / COMPLETE_MARK).stat().st_ino
    shutil.rmtree(tmp_path / "objects")
    assert materialise_version(objects, manifest, NAME, layout) == folder
    assert (folder / COMPLETE_MARK).stat().st_ino == inode


@pytest.mark.parametrize("how", ["changed", "missing", "added", "link", "file for link", "mark"])
def test_damage_is_found_and_mended_from_the_store(
    objects: ObjectStore, manifest: Manifest, layout: ServeLayout, how: str
) -> None:
    """A model would be served from damaged weights."""
    folder = materialise_version(objects, manifest, NAME, layout)
    place = folder / "artifact" / "weights.bin"
    match how:
        case "changed":
            place.chmod(0o644)
            with place.open("r+b") as stream:
                stream.write(b"!")
        case "missing":
            place.unlink()
        case "added":
            (folder / "code" / "numpy.py").write_text("import os")
        case "link":
            (folder / "code" / "latest.py").unlink()
            (folder / "code" / "latest.py").symlink_to("/etc/passwd")
        case "file for link":
            place.rename(folder.parent / "elsewhere")
            place.symlink_to(folder.parent / "elsewhere")
        case _:
            (folder / COMPLETE_MARK).write_text("half a ma")
    assert verify_version(folder) != []
    materialise_version(objects, manifest, NAME, layout)
    assert verify_version(folder) == []
    assert place.read_bytes() == WEIGHTS


def test_compiled_python_is_no_damage(
    objects: ObjectStore, manifest: Manifest, layout: ServeLayout
) -> None:
    """A version would be written anew after every start of a tool that compiles."""
    folder = materialise_version(objects, manifest, NAME, layout)
    (folder / "code" / "__pycache__").mkdir()
    (folder / "code" / "__pycache__" / "train.cpython-311.pyc").write_bytes(b"x")
    assert verify_version(folder) == []


def test_what_a_kill_left_is_done_again(
    objects: ObjectStore, manifest: Manifest, layout: ServeLayout
) -> None:
    """A server killed while writing would find the folder in its way for ever."""
    partial = layout.version(NAME).with_name(f".{'ab' * 32}.part")
    (partial / "artifact").mkdir(parents=True)
    (partial / "artifact" / "weights.bin").write_bytes(b"half")
    assert verify_version(materialise_version(objects, manifest, NAME, layout)) == []
    assert not partial.exists()


def test_damage_in_the_store_too_is_an_error_that_names_the_version(
    objects: ObjectStore, manifest: Manifest, layout: ServeLayout, tmp_path: Path
) -> None:
    """Damaged bytes would be served, or nobody would know whose they are."""
    make_loose(tmp_path / "objects")
    for path in (tmp_path / "objects").rglob("*"):
        if path.is_file() and path.stat().st_size > 1000:
            path.chmod(0o644)
            path.write_bytes(path.read_bytes()[:-50] + b"\0" * 50)
    with pytest.raises(IntegrityError, match="digits, version with manifest sha256:abab"):
        materialise_version(objects, manifest, NAME, layout)
    assert not is_materialised(layout, NAME)


def test_a_file_that_is_gone_from_the_store_is_damage_too(
    objects: ObjectStore, manifest: Manifest, layout: ServeLayout
) -> None:
    """A caller that mends damage would not take it for damage."""
    lost = replace(manifest, artifact=replace(manifest.artifact, content=_NONE))
    with pytest.raises(IntegrityError, match="digits"):
        materialise_version(objects, lost, NAME, layout)


def test_versions_share_files_and_none_of_them_a_rotten_one(
    objects: ObjectStore, manifest: Manifest, layout: ServeLayout
) -> None:
    """A version would be made from bytes that rotted in another one."""
    first = materialise_version(objects, manifest, NAME, layout)
    other = "sha256:" + "cd" * 32
    assert verify_version(materialise_version(objects, manifest, other, layout)) == []
    weights = first / "artifact" / "weights.bin"
    weights.chmod(0o644)
    weights.write_bytes(WEIGHTS[:-1] + b"x")
    third = materialise_version(objects, manifest, "sha256:" + "ef" * 32, layout)
    assert (third / "artifact" / "weights.bin").read_bytes() == WEIGHTS
    assert verify_version(first) == ["artifact/weights.bin"]
    assert verify_version(layout.version(other)) == []
