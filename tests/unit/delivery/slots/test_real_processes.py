"""Wrong here: a recorded version does not run in the environment it was recorded in."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import stemma
from stemma.delivery.layout import ServeLayout
from stemma.delivery.slots.base import SlotSpec, SlotState, SlotStatus
from stemma.delivery.slots.environments import ensure_environment
from stemma.delivery.slots.launching import Launcher
from stemma.delivery.slots.supervisor import Supervisor
from stemma.domain.configuration import Configuration
from stemma.domain.errors import NotFoundError, UnavailableError
from stemma.domain.manifest import Manifest
from stemma.server.wiring import init_project, open_hub
from stemma.store.hashing import hash_bytes
from stemma.store.objects import ObjectStore

pytestmark = pytest.mark.slow
_FEATURES, _LABELS = load_digits(return_X_y=True)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project that is the current folder; no network."""
    root = tmp_path / "project"
    root.mkdir()
    init_project(root)
    monkeypatch.chdir(root)
    monkeypatch.setenv("STEMMA_MAY_USE_NETWORK", "false")
    monkeypatch.setenv("UV_FIND_LINKS", str(_wheels(tmp_path)))
    for name in ("STEMMA_PROJECT", "STEMMA_COMMAND", "STEMMA_SET"):
        monkeypatch.delenv(name, raising=False)
    return root


@dataclass
class Served:
    """A project's versions and the supervisor that serves them."""

    objects: ObjectStore
    layout: ServeLayout
    manifests: dict[str, Manifest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        launcher = Launcher(
            objects=self.objects,
            layout=self.layout,
            load_manifest=self.manifests.__getitem__,
            is_offline=True,
        )
        self.supervisor = Supervisor(self.layout, launcher.prepare, lambda: datetime.now(UTC))

    def spec(self, version: str, manifest: Manifest) -> SlotSpec:
        """Return a slot of that version."""
        name = str(hash_bytes(repr(manifest).encode())).replace("blake3", "sha256")
        self.manifests[name] = manifest
        return SlotSpec(
            name=f"digits-{version}-c1",
            model="digits",
            version=version,
            manifest=name,
            configuration_digest="sha256:" + "0" * 64,
            configuration=Configuration(memory_mib=600),
        )

    def serve(self, *specs: SlotSpec) -> list[SlotStatus]:
        """Run them until each is ready or given up."""
        self.supervisor.want(specs)
        end = time.monotonic() + 90
        while time.monotonic() < end:
            self.supervisor.tick()
            found = [self.supervisor.statuses()[spec.name] for spec in specs]
            if all(s.state in {SlotState.READY, SlotState.FAILED} for s in found):
                return found
            time.sleep(0.05)
        raise AssertionError(found)


@pytest.fixture
def served(project: Path) -> Iterator[Served]:
    """The project's slots; every process ends with the test."""
    with closing(open_hub()) as hub:
        found = Served(hub.objects, ServeLayout(state=project / ".stemma"))
        yield found
        found.supervisor.stop_all()
        found.supervisor.close()
        shutil.rmtree(found.layout.sockets())


def _wheels(folder: Path) -> Path:
    """Make two releases of a package that cannot be installed together."""
    wheels = folder / "wheels"
    wheels.mkdir()
    for version in ("1.0", "2.0"):
        info = f"pepper-{version}.dist-info"
        with zipfile.ZipFile(wheels / f"pepper-{version}-py3-none-any.whl", "w") as archive:
            archive.writestr("pepper.py", f"VERSION = {version!r}\n")
            archive.writestr(
                f"{info}/METADATA", f"Metadata-Version: 2.1\nName: pepper\nVersion: {version}\n"
            )
            archive.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr(f"{info}/RECORD", "")
    return wheels


def _record() -> Manifest:
    model = LogisticRegression(max_iter=300).fit(_FEATURES[:300], _LABELS[:300])
    with stemma.run("digits") as run:
        run.data("digits-train", (_FEATURES[:300], _LABELS[:300]))
        run.model(model, test=(_FEATURES[300:400], _LABELS[300:400]))
    return stemma.get(f"digits@{run.id}").manifest


def _with_package(served: Served, manifest: Manifest, line: str) -> Manifest:
    """Return the version as if it had been recorded with one more package."""
    lock = served.objects.read_bytes(manifest.environment.lock).decode() + f"{line}\n"
    stored = served.objects.put_bytes(lock.encode())
    environment = replace(manifest.environment, identity=stored.digest, lock=stored.digest)
    changed = replace(manifest, environment=environment)
    try:
        ensure_environment(
            lock, str(stored.digest), environment.python, served.layout, is_offline=True
        )
    except (UnavailableError, NotFoundError) as error:
        pytest.skip(f"scikit-learn is not in uv's cache: {error}")
    return changed


def _ask(path: str) -> dict[str, Any]:
    """Predict one row over a Unix socket."""
    body = {
        "inputs": [
            {"name": "X", "shape": [1, 64], "datatype": "FP64", "data": _FEATURES[0].tolist()}
        ]
    }
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(path)
    with closing(connection):
        connection.request("POST", "/v2/models/digits/infer", json.dumps(body))
        response = connection.getresponse()
        assert response.status == 200, response.read()
        return dict(json.loads(response.read()))


def test_versions_whose_packages_conflict_serve_side_by_side(served: Served) -> None:
    """A rollback to a version with older packages would need the newer one to go first."""
    recorded = _record()
    manifests = [
        _with_package(served, recorded, "pepper==1.0"),
        _with_package(served, recorded, "pepper==2.0"),
    ]
    specs = [served.spec(f"{number}.0.0", m) for number, m in enumerate(manifests, 1)]
    statuses = served.serve(*specs)
    assert [status.state for status in statuses] == [SlotState.READY] * 2, statuses
    expected = LogisticRegression(max_iter=300).fit(_FEATURES[:300], _LABELS[:300])
    answer = int(expected.predict(_FEATURES[:1])[0])
    for status, package in zip(statuses, ("1.0", "2.0"), strict=True):
        assert _ask(status.sockets[0])["outputs"][0]["data"] == [answer]
        pid = status.replicas[0].pid
        command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        site = next((Path(command[0]).parent.parent / "lib").glob("python*/site-packages"))
        assert (site / f"pepper-{package}.dist-info").is_dir()
        loaded = Path(f"/proc/{pid}/maps").read_text()
        assert f"{site}/sklearn" in loaded, "from its own environment"
        assert f"{sys.prefix}/lib/{site.parent.name}/site-packages/sklearn" not in loaded


def test_a_version_that_answers_otherwise_than_recorded_is_refused(served: Served) -> None:
    """A model whose numbers changed with its packages would serve users."""
    manifest = _with_package(served, _record(), "pepper==1.0")
    other = LogisticRegression(max_iter=300).fit(-_FEATURES[:300], 9 - _LABELS[:300])
    with stemma.run("digits") as run:
        run.model(other, test=(_FEATURES[300:400], _LABELS[300:400]))
    swapped = stemma.get(f"digits@{run.id}").manifest
    wrong = replace(manifest, artifact=swapped.artifact)
    (status,) = served.serve(served.spec("1.0.0", wrong))
    assert status.state is SlotState.FAILED
    assert "golden" in status.detail
    assert status.replicas[0].restarts == 0
