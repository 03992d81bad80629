"""Train a classifier on scikit-learn's digits and record it."""

from sklearn.datasets import load_digits
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import stemma

X, y = load_digits(return_X_y=True)
Xtr, Xte, ytr, yte = train_test_split(X, y, test_size=0.3, random_state=0, stratify=y)

with stemma.run("digits") as run:
    run.data("digits-train", (Xtr, ytr))
    estimator = LogisticRegression(max_iter=500)
    model = make_pipeline(SimpleImputer(), StandardScaler(), estimator).fit(Xtr, ytr)
    run.model(model, test=(Xte, yte))
