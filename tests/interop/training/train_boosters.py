"""XGBoost and LightGBM, five rounds each, with their own callbacks."""

from __future__ import annotations

import json
import sys

import lightgbm
import xgboost
from sklearn.datasets import load_breast_cancer

import stemma

features, labels = load_breast_cancer(return_X_y=True)
ids = {}
with stemma.run("xgb") as run:
    matrix = xgboost.DMatrix(features, labels)
    booster = xgboost.train(
        {"objective": "binary:logistic", "max_depth": 3, "nthread": 1},
        matrix,
        num_boost_round=5,
        evals=[(matrix, "train")],
        callbacks=[run.callback("xgboost")],
        verbose_eval=False,
    )
    booster.save_model("booster.json")
    run.model("booster.json")
    ids["xgboost"] = run.id
with stemma.run("lgbm") as run:
    data = lightgbm.Dataset(features, labels)
    trees = lightgbm.train(
        {"objective": "binary", "num_threads": 1, "verbose": -1, "num_leaves": 7},
        data,
        num_boost_round=5,
        valid_sets=[data],
        callbacks=[run.callback("lightgbm")],
    )
    trees.save_model("trees.txt")
    run.model("trees.txt")
    ids["lightgbm"] = run.id
sys.stdout.write(json.dumps(ids) + "\n")
