"""How good predictions are: the four scores of the paper, and relative errors.

Pure. R² is 1 - SSE / SST, negative where a mean would be better; the paper's tool reports the
squared correlation, which no constant factor lowers, so both are here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from campaign.analysis.predictor.physics import Array

SCORES = ("rmse", "r2", "r2_correlation", "mae", "mape_pct")
Table = Mapping[str, float | None]


def scored(measured: Array, predicted: Array) -> dict[str, float]:
    """Return the scores of predictions, in the unit of what was measured; MAPE in percent."""
    off = predicted - measured
    around = float(((measured - measured.mean()) ** 2).sum())
    spread = float(predicted.std() * measured.std())
    together = float(np.mean((predicted - predicted.mean()) * (measured - measured.mean())))
    return {
        "rmse": float(np.sqrt(np.mean(off**2))),
        "r2": 1 - float((off**2).sum()) / around if around else float("nan"),
        "r2_correlation": (together / spread) ** 2 if spread else float("nan"),
        "mae": float(np.abs(off).mean()),
        "mape_pct": float(100 * np.abs(off / measured).mean()),
    }


def spread(each: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    """Return mean and standard deviation over folds of every score."""
    found: dict[str, float | None] = {}
    for name in SCORES:
        values = np.array([one[name] for one in each])
        values = values[np.isfinite(values)]
        found[name] = float(values.mean()) if len(values) else None
        found[f"{name}_sd"] = float(values.std(ddof=1)) if len(values) > 1 else None
    return found


def relative(measured: Array, predicted: Array) -> dict[str, float]:
    """Return relative errors of positive predictions, and the spread of their logarithms.

    A prediction of zero or less counts as wrong by its whole size.
    """
    ratio = predicted / measured
    logs = np.log(np.maximum(ratio, 1e-3))
    low, middle, high = np.quantile(logs, (0.05, 0.5, 0.95))
    return {
        "median_error": float(np.median(np.abs(ratio - 1))),
        "p90_error": float(np.quantile(np.abs(ratio - 1), 0.9)),
        "log_residual_p05": float(low),
        "log_residual_median": float(middle),
        "log_residual_p95": float(high),
        "log_residual_sd": float(logs.std()),
    }
