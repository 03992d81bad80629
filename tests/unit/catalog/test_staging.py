"""Versions are stored beside the earlier ones they resemble."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest

from stemma.catalog.capture.base import CapturedModel
from stemma.catalog.recording import Recorder
from stemma.domain.digest import Digest
from stemma.domain.manifest import Manifest, Provenance, encode_manifest
from stemma.store.backends.memory import MemoryBackend
from stemma.store.index import MemoryChunkIndex
from stemma.store.objects import ObjectStore
from stemma.store.sizes import added_bytes

MOMENT = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def objects() -> ObjectStore:
    """An empty store."""
    return ObjectStore(MemoryBackend(), MemoryChunkIndex())


def _record(
    objects: ObjectStore,
    files: dict[str, Path],
    *,
    parents: tuple[Digest, ...] = (),
    earlier: tuple[Digest, ...] = (),
) -> tuple[Manifest, Digest, list[str]]:
    recorder = Recorder(objects, Path(), "digits")
    recorder.set_model(CapturedModel(files=files, loader="file", family="", summary=""))
    recorder.set_earlier(earlier)
    manifest = recorder.build(
        Provenance(run="r-1", started_at=MOMENT, ended_at=MOMENT, created_by="ada", parents=parents)
    )
    return manifest, objects.put_record("manifest", encode_manifest(manifest)), recorder.warnings


def _save(path: Path, seed: int) -> Path:
    weights = np.random.default_rng(0).normal(0, 0.05, (400, 300)).astype(np.float32)
    change = np.random.default_rng(seed).normal(0, 1e-5, (400, 300)).astype(np.float32)
    np.save(path, weights + change)
    return path


@pytest.mark.parametrize("relation", ["parents", "earlier"])
def test_a_version_is_stored_as_the_difference_to_an_earlier_one(
    objects: ObjectStore, tmp_path: Path, relation: str
) -> None:
    """Every training of a model would take the room of the whole model."""
    first, digest, _ = _record(objects, {"model.npy": _save(tmp_path / "a.npy", 1)})
    named = (Digest.sha256("0" * 64), digest)
    files = {"model.npy": _save(tmp_path / "b.npy", 2)}
    if relation == "parents":
        second, *_ = _record(objects, files, parents=named)
    else:
        second, *_ = _record(objects, files, earlier=named)
    needed_bytes = added_bytes(objects, second.artifact.content, beside=first.artifact.content)
    assert 0 < needed_bytes < 0.6 * second.artifact.size_bytes
    [file] = second.artifact.files
    assert objects.read_bytes(file.digest) == (tmp_path / "b.npy").read_bytes()
    assert added_bytes(objects, first.artifact.content, beside=first.artifact.content) == 0


def test_the_file_of_the_same_name_is_compared_first(objects: ObjectStore, tmp_path: Path) -> None:
    """A model of several parts must be compared part by part."""
    files = {name: _save(tmp_path / f"{name}.npy", seed) for seed, name in enumerate("ab")}
    _, digest, _ = _record(objects, files)
    again = {name: tmp_path / f"again-{name}.npy" for name in files}
    for name, path in again.items():
        weights = np.load(files[name])
        weights[0, 0] += 1
        np.save(path, weights)
    second, _, _ = _record(objects, again, parents=(digest,))
    first_tree = _record(objects, files)[0].artifact.content
    assert added_bytes(objects, second.artifact.content, beside=first_tree) < 5000


def test_a_file_that_is_not_what_it_looks_like_is_kept_and_told(
    objects: ObjectStore, tmp_path: Path
) -> None:
    """A truncated checkpoint must be recorded as it is, but not in silence."""
    whole = _save(tmp_path / "a.npy", 1).read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-1000])
    manifest, _, warnings = _record(objects, {"cut.npy": tmp_path / "cut.npy"})
    [warning] = [text for text in warnings if text.startswith("cut.npy: ")]
    assert "npy" in warning
    assert objects.read_bytes(manifest.artifact.files[0].digest) == whole[:-1000]


@pytest.mark.slow
def test_two_precisions_recorded_together_cost_one(objects: ObjectStore, tmp_path: Path) -> None:
    """The narrow copy follows from the wide one, in whatever order their names come."""
    generator = np.random.default_rng(29)
    wide = generator.normal(0, 0.05, (1200, 1024)).astype(np.float32)
    np.savez(tmp_path / "b.npz", w=wide)
    np.savez(tmp_path / "a.npz", w=wide.astype(np.float16))
    manifest, _, _ = _record(objects, {name: tmp_path / name for name in ("a.npz", "b.npz")})
    stored_bytes = sum(stat.size_bytes for stat in objects.backend.list("frames/"))
    assert stored_bytes < 0.97 * wide.nbytes
    assert [file.path for file in manifest.artifact.files] == ["a.npz", "b.npz"]


def _save_onnx(folder: Path, seed: int, location: str = "w.bin") -> dict[str, Path]:
    """Write a model that says its weights are at that place."""
    folder.mkdir()
    weights = np.load(_save(folder / "w.npy", seed))
    (folder / "w.bin").write_bytes(weights.tobytes())
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=weights.shape)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    graph = onnx.helper.make_graph([], "g", [], [], [tensor])
    (folder / "m.onnx").write_bytes(onnx.helper.make_model(graph).SerializeToString())
    return {name: folder / name for name in ("m.onnx", "w.bin")}


def test_weights_beside_a_model_are_a_difference_to_the_earlier_ones(
    objects: ObjectStore, tmp_path: Path
) -> None:
    """Every training of an ONNX model with its weights outside would take its whole room."""
    first, digest, _ = _record(objects, _save_onnx(tmp_path / "1", 1))
    files = _save_onnx(tmp_path / "2", 2)
    second, _, warnings = _record(objects, files, parents=(digest,))
    needed_bytes = added_bytes(objects, second.artifact.content, beside=first.artifact.content)
    assert 0 < needed_bytes < 0.6 * second.artifact.size_bytes
    assert not [text for text in warnings if text.startswith(("m.onnx", "w.bin"))]
    for file in second.artifact.files:
        assert objects.read_bytes(file.digest) == files[file.path].read_bytes()


def test_weights_that_a_model_names_elsewhere_are_told(
    objects: ObjectStore, tmp_path: Path
) -> None:
    """Somebody would release a model whose weights are not in the version."""
    _, _, warnings = _record(objects, _save_onnx(tmp_path / "1", 1, location="../w.bin"))
    [warning] = [text for text in warnings if text.startswith("m.onnx: ")]
    assert "'../w.bin' are not followed" in warning
