"""Predict with a checked-out artifact: needs only what the version's own environment holds."""

import sys

import sklearn
import skops.io
from sklearn.datasets import load_digits

path = sys.argv[1]
model = skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
X, y = load_digits(return_X_y=True)
print(f"python {sys.version.split()[0]}, scikit-learn {sklearn.__version__} from {sys.prefix}")
print(f"predicted {model.predict(X[:5]).tolist()}, the digits are {y[:5].tolist()}")
