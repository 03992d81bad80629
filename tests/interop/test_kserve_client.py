"""The unmodified ``kserve`` client against a served model, in an environment of its own.

Its dependencies do not fit beside ours, so ``kserve.lock`` (made by ``uv pip compile
--generate-hashes --no-header --no-annotate`` from ``kserve==0.21.*``) is installed into
``.venv/interop-kserve`` once.

Wrong here: services that call models through KServe's library would have to change.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemma.store.hashing import hash_file

pytestmark = [pytest.mark.interop, pytest.mark.slow]

_LOCK = Path(__file__).with_name("kserve.lock")
_ENVIRONMENT = Path(sys.prefix) / "interop-kserve"
_INSTALL_SECONDS = 300


@pytest.fixture(scope="module")
def kserve_python() -> Path:
    """The interpreter of an environment that holds what the lock says; kept between runs."""
    python = _ENVIRONMENT / "bin" / "python"
    mark = _ENVIRONMENT / "installed-lock"
    wanted = str(hash_file(_LOCK))
    if mark.is_file() and mark.read_text() == wanted:
        return python
    uv = str(Path(sys.executable).with_name("uv"))
    install = [uv, "pip", "install", "--require-hashes", "--python", str(python)]
    for command in (
        [uv, "venv", "--clear", "--python", sys.executable, str(_ENVIRONMENT)],
        [*install, "--requirements", str(_LOCK)],
    ):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            if "hash mismatch" in done.stderr.lower():
                pytest.fail(f"kserve.lock does not fit what is published: {reason}")
            pytest.skip(f"kserve cannot be installed here (no network?): {reason}")
    mark.write_text(wanted)
    return python


def test_the_client_gets_the_models_own_answers(kserve_python: Path, served: Any) -> None:
    """Health, JSON and binary tensors of the second protocol, and the first one."""
    done = subprocess.run(
        [kserve_python, Path(__file__).with_name("kserve_client.py"), f"http://{served.address}"],
        input=json.dumps(served.rows.tolist()),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"kserve {found['kserve']}")  # noqa: T201 - which client was driven
    assert found["live"]
    assert found["ready"]
    assert found["model_ready"]
    assert found["v1_model_ready"]
    for way in ("json", "binary"):
        assert found[way]["prediction"] == served.labels.tolist()
        np.testing.assert_allclose(found[way]["probabilities"], served.scores)
    assert found["v1"] == {"predictions": served.labels.tolist()}
