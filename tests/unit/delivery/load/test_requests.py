"""What is sent: recorded requests, the user's own, golden rows."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from stemma.delivery.load.requests import (
    read_recorded,
    read_request_file,
    requests_of_rows,
)
from stemma.domain.errors import InvalidInputError, NotFoundError


def recorded(path: str, **changes: object) -> str:
    body = base64.b64encode(b"\x00\x01").decode()
    return json.dumps(
        {
            "path": path,
            "content_type": "application/octet-stream",
            "headers": {"Host": "a", "Inference-Header-Content-Length": "2"},
            "body_base64": body,
            **changes,
        }
    )


def test_each_form_of_line_goes_to_the_path_that_takes_it(tmp_path: Path) -> None:
    """A body of one protocol would be sent to another and be refused."""
    file = tmp_path / "requests.jsonl"
    file.write_text(
        "\n".join(
            [
                '{"instances": [[1, 2]]}',
                "",
                '{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}',
                '{"inputs": [[1, 2]]}',
                '{"dataframe_split": {"columns": ["a"], "data": [[1]]}}',
                recorded("/v2/models/digits/versions/1.0.0/infer"),
            ]
        )
    )
    found = read_request_file(file, "digits")
    assert found.source == "supplied"
    assert [request.path for request in found.requests] == [
        "/v1/models/digits:predict",
        "/v2/models/digits/infer",
        "/models/digits/invocations",
        "/models/digits/invocations",
        "/v2/models/digits/infer",
    ]
    last = found.requests[-1]
    assert last.body == b"\x00\x01"
    assert last.content_type == "application/octet-stream"
    assert last.headers == {"inference-header-content-length": "2"}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "is not JSON"),
        ("[1]", "is not a JSON object"),
        ('{"rows": 1}', "none of the known fields but rows"),
        (recorded("/v2/models/irises/infer"), "model irises, not digits"),
        (recorded("/v2/models/digits/infer", body_base64="%"), "is not a recorded request"),
        (recorded("/x", more=1), "unknown field `more`"),
        (recorded("nowhere"), "does not begin with /"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, line: str, problem: str) -> None:
    """The user would search a file of ten thousand lines."""
    file = tmp_path / "requests.jsonl"
    file.write_text(f'{{"instances": []}}\n{line}\n')
    with pytest.raises(InvalidInputError, match=problem) as caught:
        read_request_file(file, "digits")
    assert "line 2" in caught.value.message


def test_a_file_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    """A validation without requests would pass."""
    with pytest.raises(NotFoundError):
        read_request_file(tmp_path / "none", "digits")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(InvalidInputError, match="holds no request"):
        read_request_file(tmp_path / "empty", "digits")
    with pytest.raises(InvalidInputError):
        read_request_file(tmp_path, "digits")


def test_recordings_of_all_files_are_read(tmp_path: Path) -> None:
    """Only one of the sampled requests would be replayed."""
    assert read_recorded(tmp_path / "none", "digits").requests == ()
    for name in ("a.json", "b.jsonl", "c.tmp"):
        (tmp_path / name).write_text(recorded("/v1/models/digits:predict"))
    found = read_recorded(tmp_path, "digits")
    assert len(found.requests) == 2
    assert found.source == "recorded"


def test_each_golden_row_is_a_request_of_its_own() -> None:
    """The load would be one large batch, which no user sends."""
    rows = {"x": np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32), "c": np.array(["a", "b"])}
    found = requests_of_rows(rows, "digits")
    assert found.source == "golden set"
    assert [json.loads(request.body)["inputs"] for request in found.requests][1] == [
        {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [3.0, 4.0]},
        {"name": "c", "shape": [1], "datatype": "BYTES", "data": ["b"]},
    ]
    assert requests_of_rows({}, "digits").requests == ()
