"""The two plain protocols: MLflow's ``/invocations`` and ``POST /v1/models/NAME:predict``.

Invariants:
    * Exactly one of the forms of input is sent; an unknown member is refused by name.
    * The answer is ``{"predictions": [...]}``, one per row; NaN is answered as null.

``params`` (MLflow) and ``parameters`` take ``method``: another declared method than ``predict``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from numpy.typing import NDArray

from stemma.delivery.runtime.contract import Contract
from stemma.delivery.runtime.http import Request, Response
from stemma.delivery.runtime.model import PREDICT, Inputs, ServedModel, ask
from stemma.delivery.runtime.open_inference import datatype_of
from stemma.delivery.runtime.tables import (
    Members,
    from_columns,
    from_csv,
    from_rows,
    from_split,
    members,
)
from stemma.domain.errors import InvalidInputError, NotFoundError

_INVOCATIONS: Final[dict[str, Callable[[msgspec.Raw, Contract], Inputs]]] = {
    "dataframe_split": from_split,
    "dataframe_records": lambda raw, contract: from_rows(raw, contract, "dataframe_records"),
    "instances": lambda raw, contract: from_rows(raw, contract, "instances"),
    "inputs": lambda raw, contract: from_columns(raw, contract, "inputs"),
}
_PREDICT: Final = {name: _INVOCATIONS[name] for name in ("instances", "inputs")}
_OPTIONS: Final = frozenset({"params", "parameters", "signature_name"})
_JSON_TYPES: Final = frozenset({"", "application/json", "application/x-www-form-urlencoded"})
_PARAMETERS: Final = msgspec.json.Decoder(dict[str, Any])


def invocations(request: Request, contract: Contract, model: ServedModel) -> Response:
    """Answer ``/invocations``.

    Raises:
        InvalidInputError: If the body does not fit the protocol or the signature.
        StemmaError: If the model raises.
    """
    match request.content_type:
        case "text/csv":
            inputs = from_csv(request.body, contract)
            return _answer(inputs, request.parameter("method") or PREDICT, model)
        case kind if kind in _JSON_TYPES:
            return _score(request, contract, model, _INVOCATIONS)
        case other:
            raise InvalidInputError(
                f"content type {other[:100]!r} is not taken",
                code="unknown-content-type",
                hint="send application/json or text/csv",
            )


def predict(request: Request, contract: Contract, model: ServedModel, method: str) -> Response:
    """Answer ``/v1/models/NAME:METHOD``.

    Raises:
        InvalidInputError: If the body does not fit the protocol or the signature.
        NotFoundError: If the model does not declare the method.
        StemmaError: If the model raises.
    """
    if method not in model.methods:
        raise _no_method(method, model)
    return _score(request, contract, model, _PREDICT, method)


def _score(
    request: Request,
    contract: Contract,
    model: ServedModel,
    forms: dict[str, Callable[[msgspec.Raw, Contract], Inputs]],
    method: str = PREDICT,
) -> Response:
    found = members(request.body)
    sent = [name for name in forms if name in found]
    unknown = [name for name in found if name not in forms and name not in _OPTIONS]
    if unknown or len(sent) != 1:
        shown = ", ".join(name[:100] for name in list(found)[:20]) or "nothing"
        raise InvalidInputError(
            f"the body has {shown}; exactly one of {', '.join(forms)} is needed",
            code="bad-body",
            hint='e.g. {"instances": [[1.0, 2.0]]}',
        )
    inputs = forms[sent[0]](found[sent[0]], contract)
    asked = request.parameter("method") or _method(found) or method
    return _answer(inputs, asked, model)


def _method(found: Members) -> str:
    """Return the method named in the parameters; empty when none is."""
    for name in ("params", "parameters"):
        if name not in found:
            continue
        try:
            parameters = _PARAMETERS.decode(found[name])
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidInputError(
                f"{name}: {error}", code="bad-parameters", hint='e.g. {"method": "predict_proba"}'
            ) from error
        unknown = sorted(key[:100] for key in parameters if key != "method")
        if unknown:
            raise InvalidInputError(
                f"{name} has {', '.join(unknown)}; only method is known",
                code="unknown-parameter",
                hint='e.g. {"method": "predict_proba"}',
            )
        if parameters:
            return str(parameters["method"])
    return ""


def _answer(inputs: Inputs, method: str, model: ServedModel) -> Response:
    if method not in model.methods:
        raise _no_method(method, model)
    array = ask(lambda: model.answer(inputs, method))
    return Response(body=msgspec.json.encode({"predictions": _listed(array)}))


def _listed(array: NDArray[Any]) -> Any:
    if datatype_of(array) != "BYTES":
        return array.tolist()
    return array.astype(str).tolist()


def _no_method(method: str, model: ServedModel) -> NotFoundError:
    return NotFoundError(
        f"the model declares no method {method[:100]!r}; it has {', '.join(model.methods)}",
        code="unknown-method",
        hint="run.model(model, interface=[...]) declares methods",
    )
