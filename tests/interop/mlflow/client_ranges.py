"""A released model, loaded by SemVer, by range, by channel, by integer."""

from __future__ import annotations

import sys

import mlflow
import pytest
from mlflow.exceptions import MlflowException

name = sys.argv[1]
for ref in ("@^1", "@>=1.0,<2", "@1.0.0", "/1.0.0", "@champion", "/1"):
    model = mlflow.sklearn.load_model(f"models:/{name}{ref}")
    assert type(model).__name__ == "LogisticRegression", ref
for ref in ("@^2", "@9.9.9", "@nightly"):
    with pytest.raises(MlflowException) as missing:
        mlflow.sklearn.load_model(f"models:/{name}{ref}")
    assert missing.value.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}, ref
