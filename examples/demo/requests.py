"""Write what the demo's users send: digits, half of them with a pixel the scanner missed.

One request per line, as Open Inference Protocol bodies with binary tensors, for JSON knows
no missing number.
"""

import base64
import json
import sys

import numpy as np
from sklearn.datasets import load_digits

X, _ = load_digits(return_X_y=True)
generator = np.random.default_rng(0)

with open(sys.argv[1], "w", encoding="utf-8") as file:  # noqa: PTH123 - a script to read
    for number, row in enumerate(X[generator.permutation(len(X))[:200]]):
        pixels = row.astype("<f8")
        if number % 2:
            pixels[generator.integers(64)] = np.nan
        header = json.dumps(
            {
                "inputs": [
                    {
                        "name": "X",
                        "shape": [1, 64],
                        "datatype": "FP64",
                        "parameters": {"binary_data_size": pixels.nbytes},
                    }
                ]
            }
        ).encode()
        request = {
            "path": "/v2/models/digits/infer",
            "content_type": "application/octet-stream",
            "headers": {"inference-header-content-length": str(len(header))},
            "body_base64": base64.b64encode(header + pixels.tobytes()).decode(),
        }
        file.write(json.dumps(request) + "\n")
