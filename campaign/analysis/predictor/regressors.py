"""The six regressors of 2511.05597, seven here, as scikit-learn and XGBoost have them.

The one module that imports either, and skops, inside functions. Owns their names, what each is
tuned over, and how a forest is kept in a file without pickle. Knows neither folds nor features.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from campaign.analysis.predictor.physics import Array
from db.errors import ConfigError

Setting = Mapping[str, float]
Predict = Callable[[Array], Array]


class Estimator(Protocol):
    """What scikit-learn and XGBoost both offer."""

    def fit(self, x: Array, y: Array) -> Estimator:
        """Learn, and return what learned."""

    def predict(self, x: Array) -> Array:
        """Return the target of rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Regressor:
    """One regressor: its name in the paper's tables, and the settings it is tuned over."""

    name: str
    title: str
    settings: tuple[Setting, ...]


def _grid(**values: Sequence[float]) -> tuple[Setting, ...]:
    found: list[dict[str, float]] = [{}]
    for name, choices in values.items():
        found = [{**one, name: value} for one in found for value in choices]
    return tuple(found)


LINEAR, XGB_LINEAR, XGB_TREES = "linear", "xgb_linear_text", "xgb_linear_numbers"
XGB, FOREST, SVM, GLMNET = "xgb", "random_forest", "svm_linear", "glmnet"
#: caret's `xgbLinear` grows default trees although its name and the paper's text say linear.
REGRESSORS: Mapping[str, Regressor] = {
    one.name: one
    for one in (
        Regressor(name=LINEAR, title="Linear Model", settings=({},)),
        Regressor(name=XGB_LINEAR, title="XGB Linear, as the text says (linear)",
                  settings=_grid(reg_lambda=(0.0, 1.0), reg_alpha=(0.0, 0.1))),
        Regressor(name=XGB_TREES, title="XGB Linear, as its numbers imply (trees)",
                  settings=_grid(reg_lambda=(0.0, 0.1), n_estimators=(50, 150))),
        Regressor(name=XGB, title="XGB",
                  settings=_grid(max_depth=(2, 3), learning_rate=(0.3, 0.4),
                                 n_estimators=(50, 150))),
        Regressor(name=FOREST, title="Random Forest",
                  settings=_grid(max_features=(0.35, 1.0))),
        Regressor(name=SVM, title="SVM Linear", settings=_grid(C=(0.1, 1.0))),
        Regressor(name=GLMNET, title="Glmnet",
                  settings=_grid(alpha=(0.001, 0.01, 0.1), l1_ratio=(0.1, 0.55, 1.0))),
    )
}  # fmt: skip
#: Each tree of a forest sees so many rows at most, drawn anew: more take minutes and change little.
TREE_ROWS = 6000
#: A support vector machine learns from so many rows at most: its time grows faster than they do,
#: and 33 weights do not change by more of them.
SVM_ROWS = 8000
#: What skops does not trust by itself, and a forest is made of; its indices are checked.
TREE = "sklearn.tree._tree.Tree"


def learn(name: str, setting: Setting, x: Array, y: Array, *, seed: int) -> Predict:
    """Return what a regressor learned. Inputs and target are brought to unit scale and back."""
    if name == SVM and len(x) > SVM_ROWS:
        rows = np.random.default_rng(seed).choice(len(x), SVM_ROWS, replace=False)
        x, y = x[rows], y[rows]
    centre, spread = float(y.mean()), float(y.std()) or 1.0
    fitted = _made(name, setting, len(x), seed).fit(x, (y - centre) / spread)

    def predict(rows: Array) -> Array:
        return np.asarray(fitted.predict(rows), dtype=np.float64) * spread + centre

    return predict


def forest(x: Array, y: Array, setting: Setting, *, seed: int) -> Estimator:
    """Return a fitted forest of the target as it is, to be kept."""
    return _made(FOREST, setting, len(x), seed).fit(x, y)


def _made(name: str, setting: Setting, rows: int, seed: int) -> Estimator:
    """Return what learns, on one thread: see `side_by_side`."""
    if name in (XGB, XGB_LINEAR, XGB_TREES):
        return _boosted(name, setting, seed)
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.linear_model import ElasticNet, LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVR

    if name == FOREST:
        most = TREE_ROWS if rows > TREE_ROWS else None
        trees: Estimator = RandomForestRegressor(random_state=seed, max_samples=most, **setting)
        return trees
    linear = {
        LINEAR: LinearRegression,
        SVM: lambda: LinearSVR(epsilon=0.1, random_state=seed, max_iter=2000, **setting),
        # The Gram matrix of 33 features says all that its steps ask for, whatever the rows.
        GLMNET: lambda: ElasticNet(random_state=seed, max_iter=5000, precompute=True, **setting),
    }
    scaled: Estimator = make_pipeline(StandardScaler(), linear[name]())
    return scaled


def _boosted(name: str, setting: Setting, seed: int) -> Estimator:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from xgboost import XGBRegressor

    whole = {key: int(value) if key in ("n_estimators", "max_depth") else value
             for key, value in setting.items()}  # fmt: skip
    kinds: Mapping[str, Mapping[str, object]] = {
        # Its default draws its steps in the order in which threads come by.
        XGB_LINEAR: {"booster": "gblinear", "n_estimators": 200, "updater": "coord_descent"},
        XGB_TREES: {"max_depth": 6, "learning_rate": 0.3},
        XGB: {"subsample": 0.75, "colsample_bytree": 0.8},
    }
    boosted: Estimator = make_pipeline(
        StandardScaler(), XGBRegressor(random_state=seed, n_jobs=1, **kinds[name], **whole)
    )
    return boosted


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Keep linear algebra to the thread that asks, and solvers quiet about their limits.

    That a solver stopped at its limit is left out: the scores say how good it is.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def keep(fitted: Estimator, path: Path) -> None:
    """Write a fitted forest into a file without pickle."""
    from zipfile import ZIP_DEFLATED

    from skops.io import dump

    dump(fitted, path, compression=ZIP_DEFLATED, compresslevel=6)


def kept(path: Path, width: int) -> Predict:
    """Return the forest of a file, of so many features. ConfigError for any type not trusted."""
    from skops.io import get_untrusted_types, load

    fitted: Estimator
    try:
        unknown = sorted({*get_untrusted_types(file=path)} - {TREE})
        if not unknown:
            fitted = load(path, trusted=[TREE])
    except Exception as error:  # skops raises whatever zip, JSON and numpy do
        raise ConfigError(f"{path} is no forest of ours: {type(error).__name__}") from error
    if unknown:
        raise ConfigError(f"{path}: holds {', '.join(unknown)}, which no forest is made of")
    if not _sound(fitted, width):
        raise ConfigError(f"{path}: no forest of these features; learn it again")
    return lambda rows: np.asarray(fitted.predict(rows), dtype=np.float64)


def _sound(fitted: object, width: int) -> bool:
    """Whether this is a forest whose every branch leads to a node and asks for a feature there is.

    Compiled code follows these numbers without looking.
    """
    from sklearn.ensemble import RandomForestRegressor

    if not isinstance(fitted, RandomForestRegressor) or fitted.n_features_in_ != width:
        return False
    for one in fitted.estimators_:
        tree = one.tree_
        inner = tree.children_left >= 0
        for side in (tree.children_left[inner], tree.children_right[inner]):
            if (side <= np.flatnonzero(inner)).any() or (side >= tree.node_count).any():
                return False
        asked = tree.feature[inner]
        if (asked < 0).any() or (asked >= width).any():
            return False
    return True


def versions() -> Mapping[str, str]:
    """Return the versions of the libraries that learned."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("campaign", "scikit-learn", "xgboost-cpu", "xgboost", "skops", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
