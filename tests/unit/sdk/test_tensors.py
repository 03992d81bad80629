"""One tensor of a version: right, verified, and nothing read beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

import stemma
from stemma.domain.errors import IntegrityError, InvalidInputError, NotFoundError
from stemma.server.wiring import init_project, open_hub
from stemma.store.keys import frame_key

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:no hash"),
]

WEIGHTS: dict[str, Any] = {
    "first": np.random.default_rng(1).normal(size=(300, 400)).astype(np.float32),
    "second": np.random.default_rng(2).normal(size=(300, 400)).astype(np.float32),
    "bias": np.arange(4.0),
}


OUTSIDE = np.arange(3000.0).reshape(60, 50)
BRAIN = torch.randn(20, 30, generator=torch.Generator().manual_seed(3)).to(torch.bfloat16)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A version whose artifact is a folder of many files; recorded once, for that takes long."""
    root = tmp_path_factory.mktemp("tensors")
    init_project(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("STEMMA_MAY_USE_NETWORK", "false")
        for name in ("STEMMA_PROJECT", "STEMMA_COMMAND", "STEMMA_SET", "RANK", "LOCAL_RANK"):
            patch.delenv(name, raising=False)
        (root / "model").mkdir()
        save_file({"first": WEIGHTS["first"]}, root / "model" / "1-of-2.safetensors")
        rest = {name: array for name, array in WEIGHTS.items() if name != "first"}
        tied = {"alias:tied": "second"}
        save_file(rest, root / "model" / "2-of-2.safetensors", metadata=tied)
        state = {"brain": BRAIN, "none": torch.empty(0, 3)}
        save_torch_file(state, root / "model" / "brain.safetensors")
        np.save(root / "model" / "a.npy", np.zeros(3))
        np.save(root / "model" / "b.npy", np.ones(3))
        beside = onnx.numpy_helper.from_array(OUTSIDE, "outside")
        graph = onnx.helper.make_graph([], "g", [], [], [beside])
        onnx.save_model(
            onnx.helper.make_model(graph),
            root / "model" / "net.onnx",
            save_as_external_data=True,
            location="net.data",
        )
        with stemma.run("net") as run:
            run.model("model")
        yield stemma.get(f"net@{run.id}")


def test_tensors_of_all_shards_are_listed_and_read(version: Any) -> None:
    """A user would have to know which shard holds what."""
    listed = {(item.name, item.dtype, item.shape, item.size_bytes) for item in version.tensors()}
    assert listed >= {(n, str(a.dtype), a.shape, a.nbytes) for n, a in WEIGHTS.items()}
    for name, array in WEIGHTS.items():
        found = version.tensor(name)
        assert np.array_equal(found, array)
        found += 1  # the caller's own


def test_torch_gets_the_type_that_is_stored(version: Any) -> None:
    """A bfloat16 model would double when it is loaded piece by piece."""
    assert torch.equal(version.tensor("brain", framework="torch"), BRAIN)
    assert version.tensor("none", framework="torch").shape == (0, 3)
    assert version.tensor("brain").dtype == np.float32
    assert np.array_equal(version.tensor("brain"), BRAIN.float().numpy())
    with pytest.raises(InvalidInputError, match="framework is 'jax'"):
        version.tensor("brain", framework="jax")


def test_shared_weights_have_both_names(version: Any) -> None:
    """A tied embedding would be missing under the name that the module uses."""
    assert np.array_equal(version.tensor("tied"), WEIGHTS["second"])


def test_weights_beside_an_onnx_model_are_read(version: Any) -> None:
    """Large ONNX models keep all of their weights in another file."""
    [info] = [item for item in version.tensors() if item.name == "outside"]
    assert (info.file, info.shape, info.dtype) == ("net.data", (60, 50), "float64")
    assert np.array_equal(version.tensor("outside"), OUTSIDE)


def test_a_name_in_two_files_needs_the_file(version: Any) -> None:
    """One of two arrays would be given as if it were the other."""
    with pytest.raises(InvalidInputError, match=r"2 tensors named array") as failure:
        version.tensor("array")
    assert "a.npy:array" in failure.value.hint
    assert version.tensor("b.npy:array").sum() == 3


def test_a_wrong_name_names_what_is_near(version: Any) -> None:
    """A typo would end in a KeyError without a way on."""
    with pytest.raises(NotFoundError, match="no tensor frist; did you mean first"):
        version.tensor("frist")


def test_a_forked_worker_reads_too(version: Any) -> None:
    """A data loader's workers would share one database connection and break it."""
    version.tensor("first")
    child = os.fork()
    if child == 0:
        is_right = np.array_equal(version.tensor("second"), WEIGHTS["second"])
        os._exit(0 if is_right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(version.tensor("second"), WEIGHTS["second"])


def test_damage_elsewhere_does_not_matter_and_its_own_is_found(version: Any) -> None:
    """A flipped bit would become a wrong weight."""
    with closing(open_hub()) as hub:
        files = {file.path: file.digest for file in version.manifest.artifact.files}
        chunks = hub.objects.reader.recipe(files["2-of-2.safetensors"]).chunks
        large = max(chunks, key=lambda chunk: chunk.size_bytes)
        frame = hub.objects.index.find([large.digest])[large.digest].frame
        stored = hub.objects.backend.get(frame_key(frame))
        objects = hub.project_root / ".stemma" / "objects"
    holders = [path for path in objects.rglob("*") if path.is_file()]
    holder = next(path for path in holders if stored in path.read_bytes())
    whole = holder.read_bytes()
    place = whole.index(stored) + len(stored) - 5
    holder.chmod(0o644)
    holder.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    fresh = stemma.get(f"net@{version.run}")
    assert np.array_equal(fresh.tensor("first"), WEIGHTS["first"])
    with pytest.raises(IntegrityError):
        fresh.tensor("second")
