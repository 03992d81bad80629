"""Releases travel through a folder and a bucket, whatever happens on the way."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stemma.catalog.exchange import claim
from stemma.catalog.pointers import Pointer, write_pointer
from stemma.domain.errors import NotFoundError
from stemma.hub.local import LocalHub
from stemma.hub.remotes import TransferRequest
from stemma.server.wiring import init_project, open_hub
from stemma.store.backends.addresses import parse_address
from stemma.store.backends.base import BlobBackend
from stemma.store.backends.opening import open_backend
from stemma.testing.loose_objects import make_loose

pytestmark = pytest.mark.slow

_BIG = """\
import os, pathlib, random
import numpy as np
import stemma

X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
with stemma.run("toy") as run:
    weights = random.Random(int(os.environ["SEED"])).randbytes(24 << 20)
    pathlib.Path("weights.bin").write_bytes(weights)
    run.data("toy-train", (X, y))
    run.metric("accuracy", 0.9)
    run.model("weights.bin")
"""


_PLACES = ["folder", pytest.param("s3", marks=pytest.mark.s3)]
if "STEMMA_TEST_AZURE" in os.environ:
    _PLACES.append("azure")  # docs/compat/object-stores.md says how


@pytest.fixture(params=_PLACES)
def address(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the address of an empty remote."""
    if request.param == "folder":
        (tmp_path / "shared").mkdir()
        return str(tmp_path / "shared")
    server = request.getfixturevalue(f"{request.param}_server")
    for name, value in server.variables.items():
        monkeypatch.setenv(name, value)
    bucket = f"e2e-{secrets.token_hex(4)}"
    if request.param == "azure":
        server.make_container(bucket)
        return f"az://{bucket}/team"
    server.make_bucket(bucket)
    return f"s3://{bucket}/team"


def _with_variables(place: Any) -> Any:
    """Let commands reach the server."""
    prefixes = ("AWS_", "AZURE_")
    cloud = {name: value for name, value in os.environ.items() if name.startswith(prefixes)}
    return replace(place, variables={**place.variables, **cloud})


@pytest.fixture
def here(place: Any, address: str) -> Any:
    """Return a project with toy 1.0.0 and 2.0.0 that knows the remote."""
    made = _with_variables(place)
    assert made.stemma("remote", "add", "origin", address).returncode == 0
    return made


@pytest.fixture
def there(here: Any, address: str, tmp_path: Path) -> Any:
    """Return an empty project elsewhere that knows the remote."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    made = replace(here, folder=folder)
    assert made.stemma("init").returncode == 0
    assert made.stemma("remote", "add", "origin", address).returncode == 0
    return made


@pytest.fixture
def remote(address: str) -> BlobBackend:
    """Return the blobs of the remote."""
    return open_backend(parse_address(address), os.environ)


def _done(answer: Any, code: int = 0) -> dict[str, Any]:
    assert answer.returncode == code, answer.stdout + answer.stderr
    read: dict[str, Any] = json.loads(answer.stdout)
    return read


def _blobs(folder: Path) -> Iterator[Path]:
    objects = folder / ".stemma" / "objects"
    make_loose(objects)
    return (
        path
        for path in sorted(objects.rglob("*"))
        if path.is_file() and "tmp" not in path.relative_to(objects).parts
    )


def _damage(remote: BlobBackend, key: str) -> None:
    data = bytearray(remote.get(key))
    data[len(data) // 2] ^= 1
    remote.delete(key)
    remote.put(key, bytes(data))


def _is_whole(place: Any, version: str) -> bool:
    """Whether every byte of a version's model can be read."""
    with closing(open_hub(place.folder)) as hub:
        try:
            tree = hub.objects.read_tree(hub.resolve(f"toy@{version}").manifest.artifact.content)
            for entry in tree.entries:
                assert entry.digest is not None
                hub.objects.read_bytes(entry.digest)
        except NotFoundError:
            return False
    return True


def _frames_of_release(place: Any, version: str) -> set[str]:
    """Return the frames that only this version's artifact needs."""
    with closing(open_hub(place.folder)) as hub:
        objects = hub.objects

        def frames(number: str) -> set[bytes]:
            content = hub.resolve(f"toy@{number}").manifest.artifact.content
            found = objects.index.find(objects.chunk_sizes(content))
            return {location.frame for location in found.values()}

        others = {"1.0.0", "2.0.0"} - {version}
        only = frames(version) - {name for other in others for name in frames(other)}
        return {f"frames/{name.hex()[:2]}/{name.hex()[2:]}" for name in only}


def test_what_was_pushed_is_pulled_elsewhere_byte_for_byte(here: Any, there: Any) -> None:
    """A colleague would get another model than the one that was released."""
    pushed = _done(here.stemma("push", "--json"))
    assert [version["label"] for version in pushed["versions"]] == ["toy@1.0.0", "toy@2.0.0"]
    pulled = _done(there.stemma("pull", "--json"))
    assert [version["label"] for version in pulled["versions"]] == ["toy@1.0.0", "toy@2.0.0"]
    with closing(open_hub(here.folder)) as mine, closing(open_hub(there.folder)) as theirs:
        assert [
            (row.version, row.digest, row.released_at, row.channels) for row in mine.log("toy")
        ] == [(row.version, row.digest, row.released_at, row.channels) for row in theirs.log("toy")]
        assert mine.channel_history("toy", "stable") == theirs.channel_history("toy", "stable")
        for version in ("1.0.0", "2.0.0"):
            content = mine.resolve(f"toy@{version}").manifest.artifact.content
            assert theirs.objects.read_tree(content) == mine.objects.read_tree(content)
            for entry in theirs.objects.read_tree(content).entries:
                assert entry.digest is not None
                assert theirs.objects.read_bytes(entry.digest) == mine.objects.read_bytes(
                    entry.digest
                )
        assert theirs.doctor().is_healthy
    assert there.stemma("gc", "--yes", "--grace", "0").returncode == 0
    assert there.stemma("doctor").returncode == 0


def test_status_says_what_is_ahead_and_behind_without_asking(here: Any, there: Any) -> None:
    """One would have to push or pull to find out whether it is needed."""
    assert _done(here.stemma("status", "--json"))["remotes"] == []
    _done(here.stemma("push", "toy@1.0.0", "--json"))
    (remote,) = _done(here.stemma("status", "--json"))["remotes"]
    assert remote["name"] == "origin"
    assert [(it["model"], it["ahead"], it["behind"]) for it in remote["models"]] == [("toy", 1, 0)]
    assert "ahead by 1 version" in here.stemma("status", "--format", "agent").stdout
    _done(here.stemma("push", "--json"))
    assert _done(here.stemma("status", "--json"))["remotes"][0]["models"] == []
    _done(there.stemma("pull", "--json"))
    with closing(open_hub(there.folder)) as hub:
        hub.move_channel("toy", "stable", "toy@2.0.0", reason="mine")
        (standing,) = hub.list_standings()
    (model,) = standing.models
    assert (model.ahead, model.moves_ahead > 0, model.moves_behind) == (0, True, 0)
    assert there.stemma("remote", "remove", "origin").returncode == 0
    assert _done(there.stemma("status", "--json"))["remotes"] == []


def test_a_second_push_and_pull_of_the_same_copy_nothing(
    here: Any, there: Any, remote: BlobBackend
) -> None:
    """Every push would cost as much as the first."""
    _done(here.stemma("push", "--json"))
    before = {stat.key: stat.modified_at for stat in remote.list()}
    again = _done(here.stemma("push", "--json"))
    assert (again["copied_bytes"], again["versions"], again["move_count"]) == (0, [], 0)
    assert {stat.key: stat.modified_at for stat in remote.list()} == before
    _done(there.stemma("pull", "--json"))
    again = _done(there.stemma("pull", "--json"))
    assert (again["copied_bytes"], again["versions"], again["move_count"]) == (0, [], 0)


def test_a_dry_run_writes_nothing(here: Any, there: Any, remote: BlobBackend) -> None:
    """Looking would already change what others see."""
    assert _done(here.stemma("push", "--dry-run", "--json"))["copied_bytes"] > 0
    assert list(remote.list()) == []
    _done(here.stemma("push", "--json"))
    before = there.digest()
    assert _done(there.stemma("pull", "--dry-run", "--json"))["copied_bytes"] > 0
    assert {k: v for k, v in there.digest().items() if k not in before} == {}


def test_one_version_brings_the_names_of_all_and_its_own_files(here: Any, there: Any) -> None:
    """Who needs one model would have to fetch a year of them."""
    _done(here.stemma("push", "--json"))
    pulled = _done(there.stemma("pull", "toy@2.0.0", "--only", "artifact", "--json"))
    assert [version["label"] for version in pulled["versions"]] == ["toy@2.0.0"]
    assert there.versions() == ["2.0.0", "1.0.0"]
    with closing(open_hub(there.folder)) as hub:
        tree = hub.objects.read_tree(hub.resolve("toy@2.0.0").manifest.artifact.content)
        (digest,) = (entry.digest for entry in tree.entries)
        assert digest is not None
        assert json.loads(hub.objects.read_bytes(digest)) == {"weight": 2.0}
    missing = there.stemma("checkout", "toy@1.0.0", "--force")
    assert missing.returncode == 5, missing.stderr
    assert "stemma pull" in missing.stderr
    found = there.stemma("doctor", "--json").stdout
    assert all(item["fix"].startswith("stemma pull") for item in json.loads(found)["findings"])
    assert there.stemma("gc", "--yes", "--grace", "0").returncode == 0
    _done(there.stemma("pull", "--json"))
    assert _is_whole(there, "1.0.0")


def test_a_push_up_to_a_version_holds_back_what_is_newer(here: Any, there: Any) -> None:
    """A release that is not meant for others yet would reach them."""
    _done(here.stemma("push", "toy@1.0.0", "--json"))
    _done(there.stemma("pull", "--json"))
    assert there.versions() == ["1.0.0"]
    _done(here.stemma("push", "--json"))
    _done(there.stemma("pull", "--json"))
    assert there.versions() == ["2.0.0", "1.0.0"]


def test_a_flipped_bit_is_refused_and_named_while_others_come(
    here: Any, there: Any, remote: BlobBackend
) -> None:
    """One bad sector would deliver a wrong model, or keep every other from coming."""
    _done(here.stemma("push", "--json"))
    (key, *_) = sorted(_frames_of_release(here, "2.0.0"))
    _damage(remote, key)
    refused = _done(there.stemma("pull", "--json"), code=1)
    assert [item["what"] for item in refused["refused"]] == ["toy@2.0.0"]
    assert key in refused["refused"][0]["detail"]
    assert [version["label"] for version in refused["versions"]] == ["toy@1.0.0"]
    assert _is_whole(there, "1.0.0")
    assert not _is_whole(there, "2.0.0")
    _done(here.stemma("push", "--repair", "--json"))
    _done(there.stemma("pull", "--json"))
    assert _is_whole(there, "2.0.0")


def test_any_damaged_blob_of_a_remote_is_refused(
    here: Any, tmp_path: Path, address: str, remote: BlobBackend
) -> None:
    """Nothing unverified may be delivered, whichever object was hit."""
    _done(here.stemma("push", "--json"))
    whole = {stat.key: remote.get(stat.key) for stat in remote.list()}
    for number, key in enumerate(sorted(whole)):
        _damage(remote, key)
        folder = tmp_path / f"clone-{number}"
        shutil.copytree(_empty_project(here, tmp_path), folder)
        with closing(open_hub(folder)) as hub:
            outcome = hub.pull(TransferRequest(remote=address))
            is_index = key.startswith(("records/frame-index/", "claims/"))
            assert bool(outcome.refused) != is_index, key
            assert is_index or any(
                key in item.detail or key == item.what for item in outcome.refused
            ), (key, outcome.refused)
            assert {finding.kind for finding in hub.doctor().findings} <= {"missing-object"}
        remote.delete(key)
        remote.put(key, whole[key])


def _empty_project(here: Any, tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    if not folder.exists():
        folder.mkdir()
        made = replace(here, folder=folder)
        assert made.stemma("init").returncode == 0
    return folder


def test_what_is_damaged_here_is_mended_from_the_remote(here: Any) -> None:
    """A backup that cannot mend anything is none."""
    _done(here.stemma("push", "--json"))
    with closing(open_hub(here.folder)) as hub:
        backend = hub.objects.backend
        whole = {stat.key: backend.get(stat.key) for stat in backend.list()}
    for path in _blobs(here.folder):
        data = bytearray(path.read_bytes() or b"\0")
        data[len(data) // 2] ^= 1
        path.chmod(0o644)
        path.write_bytes(data)
    assert here.stemma("doctor").returncode == 3
    _done(here.stemma("pull", "--repair", "--json"))
    with closing(open_hub(here.folder)) as hub:
        backend = hub.objects.backend
        assert {stat.key: backend.get(stat.key) for stat in backend.list()} == whole
    # What packs say of themselves no remote knows.
    here.stemma("doctor", "--rebuild")
    assert here.stemma("doctor").returncode == 0


def test_a_number_that_means_another_version_there_is_a_conflict(
    here: Any, there: Any, prepared: Any
) -> None:
    """A pull would replace a release that production relies on."""
    _done(here.stemma("push", "--json"))
    there.write("train.py", (prepared.folder / "train.py").read_bytes())
    assert there.run(sys.executable, "train.py", variables={"WEIGHT": "9"}).returncode == 0
    assert there.stemma("release", "toy").returncode == 0
    with closing(open_hub(here.folder)) as mine, closing(open_hub(there.folder)) as theirs:
        digests = (mine.resolve("toy@1.0.0").digest, theirs.resolve("toy@1.0.0").digest)
    for verb in ("pull", "push"):
        answer = _done(there.stemma(verb, "--json"), code=12)
        (refusal,) = answer["refused"]
        assert refusal["code"] == "releases-differ"
        assert all(digest.short in refusal["detail"] for digest in digests)
    with closing(open_hub(there.folder)) as hub:
        assert hub.resolve("toy@1.0.0").digest == digests[1]
        assert len(hub.log("toy")) == 1


def test_two_pushes_at_once_leave_one_whole_remote(here: Any, there: Any) -> None:
    """Two jobs that finish together would leave a remote nobody can pull."""
    command = [sys.executable, "-m", "stemma.cli.main", "push", "--json"]
    pushes = [
        subprocess.Popen(
            command, cwd=here.folder, env=here.variables, stdout=subprocess.PIPE, stderr=2
        )
        for _ in range(2)
    ]
    answers = [json.loads(push.communicate(timeout=120)[0]) for push in pushes]
    assert [push.returncode for push in pushes] == [0, 0], answers
    _done(there.stemma("pull", "--json"))
    assert there.versions() == ["2.0.0", "1.0.0"]
    assert there.stemma("doctor").returncode == 0


def test_of_two_projects_that_push_one_number_at_once_one_gets_it(
    here: Any, there: Any, prepared: Any, tmp_path: Path, remote: BlobBackend
) -> None:
    """Each would believe that its own 1.0.0 is the one that everybody has."""
    there.write("train.py", (prepared.folder / "train.py").read_bytes())
    assert there.run(sys.executable, "train.py", variables={"WEIGHT": "9"}).returncode == 0
    assert there.stemma("release", "toy").returncode == 0
    with closing(open_hub(there.folder)) as hub:
        theirs = hub.objects.list_records("release")[0]
        data = hub.objects.read_record("release", theirs)
    # The other project has claimed the place and was killed before it wrote its record.
    assert claim(remote, theirs, data) == (theirs, data)
    answer = _done(here.stemma("push", "--json"), code=12)
    assert [item["code"] for item in answer["refused"]] == ["releases-differ"]
    assert theirs.short in answer["refused"][0]["detail"]
    _done(there.stemma("push", "--json"))
    fresh = replace(here, folder=tmp_path / "empty")
    _empty_project(here, tmp_path)
    with closing(open_hub(fresh.folder)) as hub:
        hub.add_remote("origin", str(json.loads(here.stemma("remote", "--json").stdout)[0]["url"]))
    _done(fresh.stemma("pull", "--json"))
    with closing(open_hub(fresh.folder)) as hub:
        assert [row.version for row in hub.log("toy")] == ["1.0.0"]
        assert hub.objects.list_records("release") == [theirs]


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_a_copy_that_was_killed_goes_on_when_run_again(
    verb: str, here: Any, there: Any, remote: BlobBackend
) -> None:
    """A cut line would mean starting over, or a version that is not whole."""
    here.write("big.py", _BIG)
    assert here.run(sys.executable, "big.py", variables={"SEED": "1"}).returncode == 0
    assert here.stemma("release", "toy", "--bump", "major").returncode == 0
    place, target = (here, remote)
    if verb == "pull":
        _done(here.stemma("push", "--json"))
        place, target = there, open_hub(there.folder).objects.backend
    for enough in (1, 8, 20):
        process = subprocess.Popen(
            [sys.executable, "-m", "stemma.cli.main", verb],
            cwd=place.folder,
            env=place.variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and sum(1 for _ in target.list("frames/")) < enough:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    here_or_there = _done(place.stemma(verb, "--json"))
    assert here_or_there["copied_bytes"] < 20 << 20
    if verb == "push":
        _done(there.stemma("pull", "--json"))
    assert there.versions() == ["3.0.0", "2.0.0", "1.0.0"]
    assert there.stemma("doctor").returncode == 0
    assert _is_whole(there, "3.0.0")


def test_a_remote_that_is_gone_is_said_to_be(here: Any, address: str, remote: BlobBackend) -> None:
    """A disk that is not there would silently become an empty remote."""
    if not address.startswith("/"):
        pytest.skip("a bucket that is gone: tests/unit/store/backends/test_cloud.py")
    shutil.rmtree(address)
    answer = here.stemma("pull", "--json")
    assert answer.returncode == 5
    assert json.loads(answer.stdout)["name"] == "remote-missing"


def test_a_channel_that_went_two_ways_is_left_as_it_is(here: Any, there: Any) -> None:
    """Pulling would move production without anybody having asked for it."""
    _done(here.stemma("push", "toy@1.0.0", "--json"))
    _done(there.stemma("pull", "--json"))
    with closing(open_hub(there.folder)) as hub:
        hub.move_channel("toy", "stable", "", reason="mine")
    with closing(open_hub(here.folder)) as hub:
        hub.move_channel("toy", "stable", "toy@2.0.0", reason="theirs")
    _done(here.stemma("push", "--json"))
    answer = _done(there.stemma("pull", "--json"), code=12)
    assert {item["code"] for item in answer["refused"]} == {"channels-differ"}
    assert there.versions() == ["2.0.0", "1.0.0"]
    with closing(open_hub(there.folder)) as hub:
        assert hub.channel_history("toy", "stable")[0].reason == "mine"


def test_a_disk_that_is_full_stops_a_pull_that_goes_on_later(
    here: Any, there: Any, tmp_path: Path
) -> None:
    """The project would be left half written, or the space that came free unused."""
    here.write("big.py", _BIG)
    assert here.run(sys.executable, "big.py", variables={"SEED": "1"}).returncode == 0
    assert here.stemma("release", "toy", "--bump", "major").returncode == 0
    _done(here.stemma("push", "--json"))
    small = "ulimit -f 900; exec " + sys.executable + " -m stemma.cli.main pull --json"
    answer = there.run("bash", "-c", f"trap '' XFSZ; {small}")
    assert _done(answer, code=75)["name"] == "disk-full"
    with closing(open_hub(there.folder)) as hub:
        assert hub.list_models() == []
    assert there.stemma("doctor").returncode == 0
    _done(there.stemma("pull", "--json"))
    assert _is_whole(there, "3.0.0")


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_without_credentials_or_a_network_the_exit_code_says_so(place: Any, verb: str) -> None:
    """A job could not tell what a person must do from what time will heal."""
    nobody = replace(
        place,
        variables={
            **{k: v for k, v in place.variables.items() if not k.startswith("AWS_")},
            "AWS_EC2_METADATA_DISABLED": "true",
        },
    )
    assert nobody.stemma("remote", "add", "origin", "s3://nobody/a").returncode == 0
    nobody.refused(
        verb, code=4, says="no credentials for s3://nobody/a", hint="stemma remote login"
    )
    told = nobody.stemma("remote", "login")
    assert told.returncode == 4
    assert "AWS_ACCESS_KEY_ID" in told.stderr


def test_remotes_are_added_listed_and_removed(place: Any, tmp_path: Path) -> None:
    """A team could not agree on where its models are."""
    assert json.loads(place.stemma("remote", "list", "--json").stdout) == []
    added = _done(place.stemma("remote", "add", "origin", str(tmp_path), "--json"))
    assert added == {"name": "origin", "url": str(tmp_path)}
    assert _done(place.stemma("remote", "add", "origin", str(tmp_path), "--json")) == added
    place.refused(
        *("remote", "add", "origin", "/elsewhere"),
        code=12,
        says=f"origin is {tmp_path} already",
        hint="stemma remote remove origin",
    )
    place.refused(
        *("remote", "add", "other", "s3://key:very-secret@bucket"),
        code=2,
        says="which git would see",
        hint="leave it out",
    )
    place.refused("push", "toy", "orign", code=5, says="no remote orign", hint="stemma remote list")
    place.refused("pull", "toi", code=5, says="holds no release of toi", hint="stemma push toi")
    assert [row["name"] for row in _done(place.stemma("remote", "--json"))] == ["origin"]  # type: ignore[index]
    assert place.stemma("remote", "login").returncode == 0
    assert place.stemma("remote", "remove", "origin").returncode == 0
    place.refused("push", code=5, says="no remote was named", hint="stemma remote add origin")
    place.refused("remote", "burn", code=2, says="no 'burn' here", hint="stemma remote --help")


def test_what_is_only_tracked_travels_too(address: str, tmp_path: Path) -> None:
    """Data that no release names would stay on the machine where it was added."""
    data = {f"{number:03d}.bin": bytes([number]) * 2_000 for number in range(100)}
    pointers: list[bytes] = []
    for place in ("ours", "theirs"):
        folder = tmp_path / place / "data"
        folder.mkdir(parents=True)
        init_project(folder.parent)
        with closing(open_hub(folder.parent)) as hub:
            assert isinstance(hub, LocalHub)
            hub.add_remote("origin", address)
            if place == "ours":
                for name, content in data.items():
                    (folder / name).write_bytes(content)
                tree = hub.objects.put_tree(folder, list(data))
                pointer = Pointer(kind="folder", size_bytes=200_000, content=tree.digest)
                pointers.append(write_pointer(folder, pointer).read_bytes())
                assert hub.push(TransferRequest()).copied_bytes > 0
                assert hub.push(TransferRequest()).copied_bytes == 0
            else:
                folder.with_name("data.stemma").write_bytes(pointers[0])
                assert hub.pull(TransferRequest()).refused == ()
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == data
