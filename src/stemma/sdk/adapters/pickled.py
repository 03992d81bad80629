"""Any object as a pickle, only when the caller asks for it; it is never loaded by Stemma."""

from __future__ import annotations

import pickle

from blake3 import blake3

from stemma.catalog.capture.base import CapturedModel
from stemma.domain.errors import InvalidInputError
from stemma.sdk.adapters.base import PICKLE_NAME, CaptureRequest, class_path, defining_source


def capture_pickle(request: CaptureRequest) -> CapturedModel:
    """Write the model as a pickle; its identity is the pickle's bytes.

    Raises:
        InvalidInputError: If it cannot be pickled.
    """
    kind = type(request.model)
    try:
        data = pickle.dumps(request.model, protocol=5)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise InvalidInputError(
            f"{class_path(kind)} cannot be pickled: {error}",
            code="not-saveable",
            hint="save it to a file in its own format and pass the path",
        ) from error
    file = request.folder / PICKLE_NAME
    file.write_bytes(data)
    sources, modules = defining_source([kind], request.sources)
    return CapturedModel(
        files={PICKLE_NAME: file},
        covered_files=(PICKLE_NAME,),
        loader="file",
        family=class_path(kind),
        summary=kind.__name__,
        configuration={"pickle": blake3(data).hexdigest()},
        defining_source=sources,
        defining_modules=modules,
        is_pickle=True,
    )
