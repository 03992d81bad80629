"""From captured parts to a manifest."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from stemma.catalog.capture.artifact import capture_model_path
from stemma.catalog.capture.base import (
    CapturedDataset,
    CapturedEnvironment,
    CapturedModel,
    CapturedPredictions,
    GitFacts,
)
from stemma.catalog.capture.code import capture_code
from stemma.catalog.capture.data import capture_dataset_arrays, capture_dataset_path, digest_rows
from stemma.catalog.identity import environment_identity, normal_command
from stemma.catalog.recording import Recorder
from stemma.domain.component import DatasetRole, Package, Stage
from stemma.domain.digest import Algorithm, Digest
from stemma.domain.errors import ConflictError, InvalidInputError, NotFoundError
from stemma.domain.facts import Layer, Structure
from stemma.domain.manifest import Manifest, Metric, Provenance, decode_manifest, encode_manifest
from stemma.store.backends.memory import MemoryBackend
from stemma.store.hashing import hash_bytes
from stemma.store.index import MemoryChunkIndex
from stemma.store.objects import ObjectStore

MOMENT = datetime(2026, 5, 3, 12, tzinfo=UTC)
PROVENANCE = Provenance(run="r-1", started_at=MOMENT, ended_at=MOMENT, created_by="ada")
SCRIPT = '''
import net
class Model:
    """A model."""
    def forward(self, x):
        return x
fit(Model(), C=1.0)
'''
ROWS = np.arange(20.0).reshape(10, 2)
LABELS = np.arange(10) % 2


@pytest.fixture
def objects() -> ObjectStore:
    return ObjectStore(MemoryBackend(), MemoryChunkIndex())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text(SCRIPT, encoding="utf-8")
    (folder / "net.py").write_text("import tools\ndef block(): return 1\n", encoding="utf-8")
    (folder / "tools.py").write_text("rate = 3\n", encoding="utf-8")
    (folder / "params.yaml").write_text("C: 1.0\n", encoding="utf-8")
    (folder / "weights.bin").write_bytes(b"weights")
    return folder


def model(root: Path, **changes: object) -> CapturedModel:
    source = (root / "train.py").read_text(encoding="utf-8")
    captured = CapturedModel(
        files={"model.npz": root / "weights.bin"},
        loader="torch",
        family="train.Model",
        summary="Model",
        structure=Structure(layers=(Layer(name="a", kind="Linear", parameter_count=3),)),
        tensors={"w": "aa"},
        passed={"C": 1.0},
        defaulted={"tol": 0.1},
        defining_source={"train.Model": source[source.index("class") : source.index("fit(")]},
        defining_modules=(root / "net.py", root / "train.py"),
        covered_files=("model.npz",),
    )
    return replace(captured, **changes)  # type: ignore[arg-type]


def dataset(
    folder: Path, role: DatasetRole, rows: np.ndarray, *, name: str = ""
) -> CapturedDataset:
    return capture_dataset_arrays(
        name or role.value, rows, np.zeros(len(rows)), role=role, work_folder=folder
    )


def recorder(objects: ObjectStore, root: Path) -> Recorder:
    made = Recorder(objects, root, "digits")
    made.set_model(model(root))
    made.add_dataset(dataset(root.parent, DatasetRole.TRAINING, ROWS))
    made.set_code(capture_code(root / "train.py", root))
    made.set_pipeline(["/usr/bin/python3.11", str(root / "train.py"), "--fast"])
    made.set_environment(
        CapturedEnvironment(
            lock_text="numpy==2.0\n",
            requirements=("numpy>=2,<3",),
            packages=(Package(name="numpy", version="2.0"),),
            python="3.11.7",
            platform="linux-x86_64",
        )
    )
    return made


def build(objects: ObjectStore, root: Path) -> Manifest:
    return recorder(objects, root).build(PROVENANCE)


def changed(before: Manifest, after: Manifest) -> set[str]:
    pairs = zip(before.identities.items(), after.identities.values(), strict=True)
    return {name for (name, old), new in pairs if old != new}


def test_every_digest_of_the_manifest_is_in_the_store(objects: ObjectStore, root: Path) -> None:
    """A released version could not be restored."""
    made = recorder(objects, root)
    made.add_dataset(dataset(root.parent, DatasetRole.TEST, ROWS + 100))
    made.set_predictions(predictions(ROWS + 100))
    made.set_code(
        replace(capture_code(root / "train.py", root), git=GitFacts(is_dirty=True, patch=b"p"))
    )
    made.set_model(model(root, tokens=("a",)))
    manifest = made.build(PROVENANCE)
    assert decode_manifest(encode_manifest(manifest)) == manifest
    trees = [
        manifest.architecture.content,
        manifest.pipeline.content,
        manifest.artifact.content,
        *(item.content for item in manifest.datasets.datasets),
    ]
    assert all(objects.has_tree(tree) for tree in trees)
    git = manifest.architecture.git
    golden = manifest.evidence.golden
    assert git is not None
    assert golden is not None
    blobs = [
        git.patch,
        golden.predictions,
        manifest.architecture.structure,
        manifest.architecture.tokens,
        manifest.hyperparameters.content,
        manifest.artifact.tensors,
        manifest.environment.lock,
        *(item.statistics for item in manifest.datasets.datasets),
        *(item.row_digests for item in manifest.datasets.datasets),
    ]
    assert all(blob is not None and objects.read_bytes(blob) for blob in blobs)


def test_recording_the_same_training_twice_changes_nothing(
    objects: ObjectStore, root: Path
) -> None:
    """Every run would be a new version."""
    assert changed(build(objects, root), build(objects, root)) == set()


def edit(file: str, before: str, after: str) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        text = (root / file).read_text(encoding="utf-8")
        assert before in text
        (root / file).write_text(text.replace(before, after), encoding="utf-8")

    return apply


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (edit("train.py", "C=1.0", "C=0.9"), {"pipeline"}),
        (edit("train.py", "return x", "return x + 1"), {"architecture", "pipeline"}),
        (edit("train.py", '"""A model."""', '"""Words."""'), {"pipeline"}),
        (edit("net.py", "return 1", "return 2"), {"architecture"}),
        (edit("net.py", "import tools", "import tools  # why"), set()),
        (edit("tools.py", "3", "4"), {"pipeline"}),
        (edit("weights.bin", "weights", "WEIGHTS"), set()),
    ],
)
def test_an_edit_changes_the_components_it_belongs_to(
    objects: ObjectStore, root: Path, change: Callable[[Path], None], expected: set[str]
) -> None:
    """A new value would be sold as a redesign, or a redesign as a new value."""
    before = build(objects, root)
    change(root)
    assert changed(before, build(objects, root)) == expected


def test_a_file_the_tensors_do_not_cover_counts_with_its_bytes(
    objects: ObjectStore, root: Path
) -> None:
    """A changed tokenizer would be called the same artifact."""
    found = []
    for text in ("one", "two"):
        (root / "vocabulary.txt").write_text(text, encoding="utf-8")
        files = {"model.npz": root / "weights.bin", "vocabulary.txt": root / "vocabulary.txt"}
        made = recorder(objects, root)
        made.set_model(model(root, files=files))
        found.append(made.build(PROVENANCE))
    assert changed(*found) == {"artifact"}


def test_hyperparameters_given_to_the_run_win_over_the_models(
    objects: ObjectStore, root: Path
) -> None:
    """``--set C=2`` would be shown as C=1."""
    made = recorder(objects, root)
    made.set_hyperparameters({"C": 2.0, "tol": 0.2}, {"seed": 0})
    manifest = made.build(PROVENANCE)
    blob = json.loads(objects.read_bytes(manifest.hyperparameters.content))
    assert blob == {"passed": {"C": 2.0, "tol": 0.2}, "defaulted": {"seed": 0}}
    assert manifest.hyperparameters.passed_count == 2
    assert manifest.hyperparameters.defaulted_count == 1


def test_the_pipeline_holds_script_configuration_command_and_stages(
    objects: ObjectStore, root: Path
) -> None:
    """Nobody could run the training again."""
    made = recorder(objects, root)
    stage = Stage(name="train", command=("python", "train.py"))
    made.set_pipeline(
        [str(root / "venv/bin/python3"), "train.py"],
        stages=[stage],
        configuration=[root / "params.yaml"],
    )
    pipeline = made.build(PROVENANCE).pipeline
    assert pipeline.command == ("python", "train.py")
    assert (pipeline.script, pipeline.configuration) == ("train.py", ("params.yaml",))
    assert pipeline.stages == (stage,)
    paths = [entry.path for entry in objects.read_tree(pipeline.content).entries]
    assert paths == ["params.yaml", "tools.py", "train.py"]


def test_missing_parts_are_empty_components(objects: ObjectStore, root: Path) -> None:
    """A run of files only could not be recorded, or would get made-up values."""
    manifest = Recorder(objects, root, "digits").build(PROVENANCE)
    assert manifest.architecture.family == ""
    assert manifest.artifact.files == ()
    assert manifest.datasets.datasets == ()
    assert manifest.environment.python == ""
    assert manifest.evidence.golden is None
    assert objects.read_tree(manifest.artifact.content).entries == ()


def predictions(rows: np.ndarray) -> CapturedPredictions:
    return CapturedPredictions(
        dataset="test",
        row_digests=digest_rows(rows),
        predictions=np.zeros(len(rows), dtype=np.int64),
        labels=np.zeros(len(rows), dtype=np.int64),
        metrics=(Metric(name="accuracy", value="1.0", sample_size=len(rows)),),
    )


def test_golden_rows_that_are_training_rows_are_counted_and_said(
    objects: ObjectStore, root: Path
) -> None:
    """A model that remembers its test set would look perfect."""
    golden = np.concatenate([ROWS[:3], ROWS + 100]).astype(np.float32)
    made = recorder(objects, root)
    made.add_dataset(dataset(root.parent, DatasetRole.TEST, golden))
    made.set_predictions(predictions(golden))
    manifest = made.build(PROVENANCE)
    assert manifest.evidence.golden is not None
    assert manifest.evidence.golden.training_overlap_count == 3
    assert any("3 of 13 rows" in warning for warning in made.warnings)
    data = objects.read_bytes(manifest.evidence.golden.predictions)
    with np.load(io.BytesIO(data), allow_pickle=False) as table:
        assert sorted(table.files) == ["label", "prediction", "row_digest"]
        assert table["row_digest"].shape == (13, 16)
    assert [metric.key for metric in manifest.evidence.metrics] == ["accuracy"]


def test_unknown_overlap_is_said(objects: ObjectStore, root: Path) -> None:
    """Silence would read as "no overlap"."""
    made = recorder(objects, root)
    made.add_dataset(capture_dataset_path("blob", root / "weights.bin"))
    made.add_dataset(dataset(root.parent, DatasetRole.TEST, ROWS + 100))
    made.set_predictions(predictions(ROWS + 100))
    made.build(PROVENANCE)
    assert any("overlap with test is unknown" in warning for warning in made.warnings)


def test_predictions_on_an_unrecorded_set_are_refused(objects: ObjectStore, root: Path) -> None:
    """Evidence would rest on data nobody can look at."""
    made = recorder(objects, root)
    made.set_predictions(predictions(ROWS))
    with pytest.raises(InvalidInputError, match="no recorded test dataset"):
        made.build(PROVENANCE)


@pytest.mark.parametrize(
    "change",
    [
        {"predictions": np.zeros(3)},
        {"labels": np.zeros(3)},
        {"predictions": np.array([None] * 10)},
        {"row_digests": np.zeros((10, 8), dtype=np.uint8)},
    ],
)
def test_predictions_that_do_not_belong_together_are_refused(
    objects: ObjectStore, root: Path, change: dict[str, np.ndarray]
) -> None:
    """Answers would be compared with other rows' labels, or a pickle stored."""
    with pytest.raises(InvalidInputError, match="predictions on test"):
        recorder(objects, root).set_predictions(replace(predictions(ROWS), **change))


def test_two_datasets_of_one_name_are_refused_unless_equal(
    objects: ObjectStore, root: Path
) -> None:
    """One of two training sets would vanish from the record."""
    made = recorder(objects, root)
    made.add_dataset(dataset(root.parent, DatasetRole.TRAINING, ROWS))
    with pytest.raises(InvalidInputError, match="recorded before"):
        made.add_dataset(dataset(root.parent, DatasetRole.TEST, ROWS, name="training"))


def test_a_file_that_changed_since_it_was_captured_is_refused(
    objects: ObjectStore, root: Path
) -> None:
    """Bytes would be stored under the identity of others."""
    made = recorder(objects, root)
    made.set_model(capture_model_path(root / "weights.bin"))
    os.utime(root / "weights.bin", ns=(1, 1))
    with pytest.raises(ConflictError, match=r"weights\.bin changed") as caught:
        made.build(PROVENANCE)
    assert caught.value.code == "file-changed"
    (root / "weights.bin").unlink()
    with pytest.raises(NotFoundError, match=r"weights\.bin"):
        made.build(PROVENANCE)


@pytest.mark.parametrize("name", ["../up", "/abs", "a\\b", ".git/config", "a//b", "caf\udce9"])
def test_names_that_leave_the_version_are_refused(
    objects: ObjectStore, root: Path, name: str
) -> None:
    """Checking a version out would write outside of its folder."""
    made = recorder(objects, root)
    made.set_model(model(root, files={name: root / "weights.bin"}))
    with pytest.raises(InvalidInputError, match="not a path inside a tree"):
        made.build(PROVENANCE)


def test_a_link_that_leaves_the_artifact_is_refused(objects: ObjectStore, root: Path) -> None:
    """A version would depend on a file it does not hold."""
    (root / "link").symlink_to("/etc/hostname")
    made = recorder(objects, root)
    made.set_model(model(root, files={"link": root / "link"}))
    with pytest.raises(InvalidInputError) as caught:
        made.build(PROVENANCE)
    assert caught.value.code == "link-leaves-tree"


def test_artifact_files_carry_both_digests_and_their_mode(objects: ObjectStore, root: Path) -> None:
    """Other registries could not verify the file."""
    (root / "weights.bin").chmod(0o755)
    manifest = build(objects, root)
    (file,) = manifest.artifact.files
    assert file.digest == hash_bytes(b"weights")
    assert file.sha256 == hash_bytes(b"weights", Algorithm.SHA256)
    assert manifest.artifact.size_bytes == 7
    assert objects.read_tree(manifest.artifact.content).entries[0].kind.value == "executable"


def test_a_pickle_is_marked_and_said(objects: ObjectStore, root: Path) -> None:
    """Somebody would load it without knowing that it runs code."""
    made = recorder(objects, root)
    made.set_model(model(root, is_pickle=True))
    assert made.build(PROVENANCE).artifact.is_pickle
    assert any("pickle" in warning for warning in made.warnings)


def test_licence_metadata_and_service_are_kept(objects: ObjectStore, root: Path) -> None:
    """Gates on metadata would find nothing."""
    made = recorder(objects, root)
    made.set_licence("Apache-2.0", personal_data="none")
    made.set_licence("")
    made.set_metadata({"owner": "ada"})
    made.set_metadata({"reviewed": True})
    made.add_service(Metric(name="latency_p99", value="1.9", unit="ms"))
    manifest = made.build(PROVENANCE)
    assert (manifest.evidence.licence, manifest.evidence.personal_data) == ("Apache-2.0", "none")
    assert manifest.metadata == {"owner": "ada", "reviewed": True}
    assert [metric.key for metric in manifest.evidence.service] == ["latency_p99"]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["/usr/bin/python3.11", "/p/train.py"], ("python", "train.py")),
        (["python.exe", "-m", "train"], ("python", "-m", "train")),
        (["uv", "run", "train.py"], ("uv", "run", "train.py")),
        (["python", "/elsewhere/x.py"], ("python", "/elsewhere/x.py")),
        ([], ()),
    ],
)
def test_commands_read_the_same_on_every_machine(
    command: list[str], expected: tuple[str, ...]
) -> None:
    """The same training on a colleague's machine would be another pipeline."""
    assert normal_command(command, Path("/p")) == expected


def test_environments_are_the_same_across_patch_releases_of_python() -> None:
    """An interpreter's security fix would change every version."""
    first = CapturedEnvironment(
        lock_text="a", requirements=(), packages=(), python="3.11.7", platform="linux"
    )
    second = replace(first, python="3.11.9", lock_text="b", platform="darwin")
    third = replace(first, python="3.12.0")
    assert environment_identity(first) == environment_identity(second)
    assert environment_identity(first) != environment_identity(third)


GOLDEN = {
    "architecture": "cbf30c56",
    "datasets": "4aa3e3d9",
    "pipeline": "dd7c1c3f",
    "hyperparameters": "9be508c0",
    "artifact": "1cb440bd",
    "environment": "a8894a12",
}


def test_the_golden_identities_do_not_move(objects: ObjectStore, root: Path) -> None:
    """An upgrade of Stemma would call every unchanged model changed."""
    identities = build(objects, root).identities
    assert {name: digest.short for name, digest in identities.items()} == GOLDEN
    assert isinstance(identities["artifact"], Digest)
