"""Artifacts over the protocol: put, listed, fetched in ranges, removed; and wrong paths."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from stemma.domain.artifact import check_artifact_path
from stemma.domain.errors import IntegrityError, InvalidInputError
from stemma.protocols.mlflow.signing import load_key
from stemma.store.keys import frame_key
from stemma.tracking import artifacts

FILES = "/api/2.0/mlflow-artifacts/artifacts"
LARGE = random.Random(3).randbytes(3 << 20)

WRONG_PATHS = (
    "../secret",
    "a/../../secret",
    "%2e%2e/secret",
    "%252e%252e/secret",
    "a/%252e%252e%252fsecret",
    "/etc/passwd",
    "%2fetc/passwd",
    "%252fetc%252fpasswd",
    "a//b",
    "./a",
    "a/.",
    "a\\b",
    "..\\..\\secret",
    "C:\\windows",
    "C:/windows",
    "file:///etc/passwd",
    "file:/etc/passwd",
    "http://169.254.169.254/latest",
    "dbfs:/a",
    "local:/a",
    "a\x00b",
    "a\nb",
    "x" * 300,
    "/".join(["x" * 200] * 10),
    "%" + "25" * 40 + "2e",
)


def files_of(folder: Path) -> set[str]:
    """Return every file of a project, but not those of its database and lock."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {path for path in found if not path.startswith(("stemma.db", "store.lock"))}


def damage(folder: Path, frame: bytes) -> None:
    """Flip the last bit of a stored frame, wherever it rests."""
    for path in folder.rglob("*"):
        data = bytearray(path.read_bytes()) if path.is_file() else bytearray()
        place = data.find(frame)
        if place >= 0:
            data[place + len(frame) - 1] ^= 1
            path.chmod(0o644)
            path.write_bytes(data)


@pytest.fixture
def root(ask: Any) -> str:
    """Return the URL of the artifacts of a run."""
    return f"{FILES}/0/{ask.make_run()}/artifacts"


def test_a_small_file_comes_back(ask: Any, root: str) -> None:
    """A client could not log a file."""
    assert ask("PUT", f"{root}/model/MLmodel", b"flavors: {}").json == {}
    answer = ask("GET", f"{root}/model/MLmodel")
    assert (answer.status, answer.body) == (200, b"flavors: {}")
    assert answer.headers["content-length"] == "11"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith('attachment; filename="MLmodel"')
    assert ask("HEAD", f"{root}/model/MLmodel").headers["content-length"] == "11"
    assert ask("GET", f"{root}/model/conda.yaml").json["error_code"] == "RESOURCE_DOES_NOT_EXIST"


def test_a_large_file_comes_back_in_ranges(ask: Any, root: str) -> None:
    """A download that broke off could not go on where it stopped."""
    ask.send("PUT", f"{root}/w.bin", [LARGE[: 1 << 20], LARGE[1 << 20 :]], {})
    assert ask("GET", f"{root}/w.bin").body == LARGE
    for text, part in {
        "bytes=0-0": LARGE[:1],
        "bytes=1000-2000000": LARGE[1000:2000001],
        "bytes=3145000-": LARGE[3145000:],
        "bytes=-7": LARGE[-7:],
        "bytes=3145727-9999999": LARGE[-1:],
    }.items():
        answer = ask("GET", f"{root}/w.bin", range=text)
        assert (answer.status, answer.body) == (206, part)
        start = len(LARGE) - len(part) if text in {"bytes=-7", "bytes=3145000-"} else None
        if start is not None:
            assert answer.headers["content-range"] == f"bytes {start}-3145727/3145728"
    for text in ("bytes=3145728-", "bytes=-0"):
        answer = ask("GET", f"{root}/w.bin", range=text)
        assert (answer.status, answer.headers["content-range"]) == (416, "bytes */3145728")
    for text in ("bytes=5-2", "lines=1-2", "bytes=0-1,5-6", "bytes=-"):
        assert ask("GET", f"{root}/w.bin", range=text).status == 200
    assert ask("GET", f"{root}/w.bin", range="bytes=0-0", if_range='"other"').status == 200
    assert not list((ask.folder / "tmp").iterdir())


def test_folders_are_listed_by_both_endpoints(ask: Any, root: str) -> None:
    """A client would not find what to download."""
    run = root.split("/")[-2]
    for path in ("model/MLmodel", "model/data/w.bin", "notes ä.txt"):
        ask("PUT", f"{root}/{quote(path)}", b"1234")
    listed = ask("GET", f"{FILES}?path=0/{run}/artifacts").json["files"]
    assert listed == [
        {"path": "model", "is_dir": True},
        {"path": "notes ä.txt", "is_dir": False, "file_size": 4},
    ]
    listed = ask("GET", f"{FILES}?path=0/{run}/artifacts/model").json["files"]
    assert [found["path"] for found in listed] == ["MLmodel", "data"]
    answer = ask("GET", f"/api/2.0/mlflow/artifacts/list?run_id={run}&run_uuid={run}&path=model")
    assert answer.json == {
        "root_uri": f"mlflow-artifacts:/0/{run}/artifacts",
        "files": [
            {"path": "model/MLmodel", "is_dir": False, "file_size": 4},
            {"path": "model/data", "is_dir": True},
        ],
    }
    assert ask("GET", f"{FILES}?path=0/{run}/artifacts/none").json == {"files": []}
    assert ask("GET", f"/api/2.0/mlflow/artifacts/list?run_id={'f' * 32}").status == 404


def test_files_and_folders_are_removed(ask: Any, root: str) -> None:
    """A client could not free what it logged by mistake."""
    for path in ("a/1", "a/2", "b"):
        ask("PUT", f"{root}/{path}", b"1")
    assert ask("DELETE", f"{root}/a").status == 200
    assert ask("GET", f"{root}/a/1").status == 404
    assert ask("DELETE", f"{root}/a").status == 404
    assert ask("GET", f"{root}/b").status == 200


def test_a_ready_model_cannot_be_overwritten(ask: Any) -> None:
    """What was evaluated would not be what is loaded."""
    model = ask.make_model()
    root = f"{FILES}/0/models/{model}/artifacts"
    ask("PUT", f"{root}/MLmodel", b"1")
    finished = ask(
        "PATCH",
        f"/api/2.0/mlflow/logged-models/{model}",
        {"model_id": model, "status": "LOGGED_MODEL_READY"},
    )
    assert finished.json["model"]["info"]["status"] == "LOGGED_MODEL_READY"
    for body in (b"2", LARGE):
        answer = ask("PUT", f"{root}/MLmodel", body)
        assert (answer.status, answer.json["error_code"]) == (409, "RESOURCE_CONFLICT")
    assert ask("DELETE", f"{root}/MLmodel").status == 409
    assert ask("GET", f"{root}/MLmodel").body == b"1"
    listed = ask("GET", f"/api/2.0/mlflow/logged-models/{model}/artifacts/directories").json
    assert listed["files"] == [{"path": "MLmodel", "is_dir": False, "file_size": 1}]


@pytest.mark.parametrize("path", WRONG_PATHS, ids=range(len(WRONG_PATHS)))
def test_a_wrong_path_is_refused_everywhere(ask: Any, root: str, path: str) -> None:
    """Somebody would read or write files of the machine."""
    run = root.split("/")[-2]
    before = files_of(ask.folder.parent)
    in_path, in_query = f"{root}/{quote(path)}", quote(path, safe="")
    asked = [
        ask("GET", in_path),
        ask("PUT", in_path, b"planted"),
        ask("DELETE", in_path),
        ask("GET", f"{FILES}?path=0/{run}/artifacts/{in_query}"),
        ask("GET", f"{FILES}?path={in_query}"),
        ask("GET", f"/api/2.0/mlflow/artifacts/list?run_id={run}&path={in_query}"),
        ask("GET", in_path.replace("/artifacts/0/", "/presigned/0/")),
        ask("POST", in_path.replace("/artifacts/0/", "/mpu/create/0/"), {"path": "a"}),
        ask(
            "POST", "/api/2.0/mlflow/artifacts/presigned-upload-url", {"run_id": run, "path": path}
        ),
    ]
    for answer in asked:
        assert (answer.status, answer.json["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert files_of(ask.folder.parent) == before
    with pytest.raises(InvalidInputError):
        check_artifact_path(path)


@pytest.mark.parametrize(
    "path",
    ["MLmodel", "a b/c+d.txt", "100%.txt", "über/ñ.json", "ab:c", "...", "a%20b", "x" * 255],
)
def test_ordinary_names_are_kept_as_they_are(ask: Any, root: str, path: str) -> None:
    """A file would come back under another name."""
    assert ask("PUT", f"{root}/{quote(path)}", path.encode()).status == 200
    assert ask("GET", f"{root}/{quote(path)}").body == path.encode()


@pytest.mark.parametrize(
    "place",
    ["", "0", "0/r-1", "x/r-1/artifacts/a", "0/r-1/artefacts/a", "0/zz/artifacts/a",
     "0/models/r-1/artifacts/a", "0/models/m-1", "-1/r-1/artifacts/a"],
)  # fmt: skip
def test_what_is_no_place_is_refused(ask: Any, place: str) -> None:
    """A client would think that something was stored."""
    answer = ask("PUT", f"{FILES}/{place or 'a'}", b"1")
    assert (answer.status, answer.json["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_nobody_puts_files_to_what_is_not_there(ask: Any) -> None:
    """Files would be kept that no record leads to."""
    for owner in ("r-ffffffff", f"models/m-{'f' * 32}"):
        assert ask("PUT", f"{FILES}/0/{owner}/artifacts/a", b"1").status == 404
        assert ask("PUT", f"{FILES}/0/{owner}/artifacts/a", LARGE).status == 404
    run = ask.make_run()
    assert ask("PUT", f"{FILES}/7/{run}/artifacts/a", b"1").status == 404


def test_an_upload_that_breaks_off_leaves_nothing(ask: Any, root: str) -> None:
    """Half a model could be loaded."""
    for parts in ([b"1", None], [LARGE, None]):
        assert ask.send("PUT", f"{root}/w.bin", parts, {}).status == 0
    assert ask("GET", f"{root}/w.bin").status == 404
    assert not list((ask.folder / "tmp").iterdir())


def test_damaged_bytes_are_never_sent_as_whole(ask: Any, root: str) -> None:
    """A client would load weights that nobody logged."""
    data = random.Random(4).randbytes(12 << 20)
    ask("PUT", f"{root}/w.bin", data)
    ask("PUT", f"{root}/small", b"1234")
    objects = ask.services.objects
    for path in ("small", "w.bin"):
        with ask.services.database.read() as connection:
            file = artifacts.get(connection, root.split("/")[-2], path).file
        last = objects.reader.recipe(file).between(0, objects.reader.recipe(file).chunk_count)[-1]
        (place,) = objects.index.find([last.digest]).values()
        damage(ask.folder / "objects", objects.backend.get(frame_key(place.frame)))
    assert ask("GET", f"{root}/small").json["error_code"] == "INTERNAL_ERROR"
    with pytest.raises(IntegrityError):
        ask("GET", f"{root}/w.bin")
    assert ask("GET", f"{root}/w.bin", range="bytes=0-99").body == data[:100]


def test_a_file_in_parts_becomes_one(ask: Any, root: str) -> None:
    """A model of some gigabytes could not be logged."""
    begin = root.replace("/artifacts/0/", "/mpu/create/0/") + "/big"
    started = ask("POST", begin, {"path": "/home/me/big.bin", "num_parts": 3}).json
    cut = [LARGE[: 1 << 20], LARGE[1 << 20 : 2 << 20], LARGE[2 << 20 :]]
    etags = []
    for credential, part in zip(started["credentials"], cut, strict=True):
        url = credential["url"].removeprefix("http://127.0.0.1:5000")
        ask("PUT", url, b"sent wrongly at first")
        etags.append(ask("PUT", url, part).headers["etag"])
    end = {"path": "/home/me/big.bin", "upload_id": started["upload_id"]}
    parts = [{"part_number": n, "etag": etag, "url": "x"} for n, etag in enumerate(etags, 1)]
    assert ask("GET", f"{root}/big/big.bin").status == 404
    wrong = [*parts[:2], {"part_number": 3, "etag": "0" * 64}]
    ending = begin.replace("/create/", "/complete/")
    assert ask("POST", ending, {**end, "parts": wrong}).status == 400
    assert ask("POST", ending + "/other", {**end, "parts": parts}).status == 400
    assert ask("POST", ending, {**end, "parts": parts}).json == {}
    assert ask("GET", f"{root}/big/big.bin").body == LARGE
    assert not list((ask.folder / "tmp").iterdir())
    assert ask("POST", ending, {**end, "parts": parts}).status == 404


def test_an_unfinished_upload_is_removed(ask: Any, root: str) -> None:
    """Parts of uploads that were given up would fill the disk."""
    begin = root.replace("/artifacts/0/", "/mpu/create/0/")
    first = ask("POST", begin, {"path": "C:\\models\\a.bin", "num_parts": 2}).json
    url = first["credentials"][0]["url"].removeprefix("http://127.0.0.1:5000")
    assert ask.send("PUT", url, [b"1", None], {}).status == 0
    assert [path.name for path in (ask.folder / "tmp").rglob("*") if path.is_file()] == [
        "about.json"
    ]
    incomplete = {"path": "a.bin", "upload_id": first["upload_id"], "parts": []}
    assert ask("POST", begin.replace("/create/", "/complete/"), incomplete).status == 400
    ending = {"path": "a.bin", "upload_id": first["upload_id"]}
    assert ask("POST", begin.replace("/create/", "/abort/"), ending).json == {}
    assert not list((ask.folder / "tmp").iterdir())
    assert ask("PUT", url, b"1").status == 404
    ask("POST", begin, {"path": "b.bin"})
    ask.clock.now = ask.clock.now.replace(month=6)
    ask("POST", begin, {"path": "c.bin"})
    assert len(list((ask.folder / "tmp").iterdir())) == 1
    for number in (0, -1, 10_001):
        assert ask("POST", begin, {"path": "d.bin", "num_parts": number}).status == 400
    for identity in ("../../x", "", "f" * 32):
        asked = {"path": "a.bin", "upload_id": identity}
        assert ask("POST", begin.replace("/create/", "/complete/"), asked).status == 404
        assert ask("POST", begin.replace("/create/", "/abort/"), asked).status == 200


def test_signed_addresses_permit_one_thing_for_some_time(ask: Any, root: str) -> None:
    """Whoever is handed one address could read and write others."""
    run = root.split("/")[-2]
    ask("PUT", f"{root}/a%20b.bin", LARGE)
    ask("PUT", f"{root}/other", b"1")
    given = ask("GET", root.replace("/artifacts/0/", "/presigned/0/") + "/a%20b.bin").json
    assert given["file_size"] == len(LARGE)
    url = given["url"].removeprefix("http://127.0.0.1:5000")
    assert ask("GET", url, range="bytes=5-9").body == LARGE[5:10]
    query = urlsplit(url).query
    signed = "/api/2.0/mlflow-artifacts/signed"
    for method, wrong in (
        ("GET", f"{signed}/0/{run}/artifacts/other?{query}"),
        ("PUT", url),
        ("GET", url[:-1] + "g"),
        ("GET", url.replace("expires=", "expires=9")),
        ("GET", url.partition("?")[0]),
        ("GET", url.partition("?")[0] + "?expires=x&signature=y"),
    ):
        assert ask(method, wrong).json["error_code"] == "PERMISSION_DENIED"
    ask.clock.now = ask.clock.now.replace(day=2)
    assert ask("GET", url).json["error_code"] == "PERMISSION_DENIED"
    asked = {"run_id": run, "path": "new.bin"}
    put = ask("POST", "/api/2.0/mlflow/artifacts/presigned-upload-url", asked).json
    put_url = put["presigned_url"].removeprefix("http://127.0.0.1:5000")
    assert ask("PUT", put_url, b"new").status == 200
    got = ask("POST", "/api/2.0/mlflow/artifacts/presigned-download-url", asked).json
    assert ask("GET", got["presigned_url"].removeprefix("http://127.0.0.1:5000")).body == b"new"
    for wrong in ({"path": "a"}, {**asked, "expiration": 0}, {**asked, "model_id": "m-1"}):
        answer = ask("POST", "/api/2.0/mlflow/artifacts/presigned-upload-url", wrong)
        assert answer.json["error_code"] == "INVALID_PARAMETER_VALUE"


def test_the_key_of_addresses_outlives_the_server(tmp_path: Path) -> None:
    """Uploads under way would fail after a restart, or anybody could sign addresses."""
    path = tmp_path / "addresses.key"
    key = load_key(path)
    assert load_key(path) == key
    assert len(key) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_logged_models_are_described(ask: Any) -> None:
    """`mlflow.log_model` would fail."""
    run = ask.make_run()
    made = ask(
        "POST",
        "/api/2.0/mlflow/logged-models",
        {
            "experiment_id": "0",
            "name": "clf",
            "model_type": "classifier",
            "source_run_id": run.removeprefix("r-") if len(run) > 30 else run,
            "params": [{"key": "lr", "value": "0.1"}],
            "tags": [{"key": "team", "value": "ads"}],
        },
    ).json["model"]
    model = made["info"]["model_id"]
    assert made["info"]["artifact_uri"] == f"mlflow-artifacts:/0/models/{model}/artifacts"
    one = f"/api/2.0/mlflow/logged-models/{model}"
    assert ask("GET", one).json["model"] == made
    assert ask("PATCH", f"{one}/tags", {"tags": [{"key": "a/b", "value": "c"}]}).status == 200
    assert ask("DELETE", f"{one}/tags/a/b").json == {}
    assert ask("POST", f"{one}/params", {"params": [{"key": "d", "value": "3"}]}).status == 200
    found = ask("GET", one).json["model"]
    assert found["info"]["tags"] == [{"key": "team", "value": "ads"}]
    assert [label["key"] for label in found["data"]["params"]] == ["d", "lr"]
    search = {
        "experiment_ids": ["0"],
        "filter": "name = 'clf'",
        "order_by": [{"field_name": "name"}],
    }
    answer = ask("POST", "/api/2.0/mlflow/logged-models/search", search).json
    assert answer == {"models": [found]}
    wrong = {**search, "order_by": [{"field_name": "name", "dataset_digest": "x"}]}
    assert ask("POST", "/api/2.0/mlflow/logged-models/search", wrong).status == 400
    assert ask("PATCH", one, {"status": 3}).json["model"]["info"]["status"] == (
        "LOGGED_MODEL_UPLOAD_FAILED"
    )
    assert ask("PATCH", one, {"status": "DONE"}).status == 400
    assert ask("DELETE", one, {"model_id": model}).json == {}
    assert ask("GET", one).status == 404
    assert ask("GET", f"{one}?allow_deleted=true").status == 200
    for body in (
        [],
        "text",
        {"experiment_id": "99", "name": "a"},
        {"experiment_id": "0", "name": "a/b"},
    ):
        assert ask("POST", "/api/2.0/mlflow/logged-models", body).status in {400, 404}
    assert ask("GET", "/api/2.0/mlflow/logged-models/none").status == 400
