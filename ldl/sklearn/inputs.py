"""What estimators are given: arrays, tables, arrays of a device; checked where they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import _get_feature_names, validate_data

from ldl.backend import Array, Backend, get_backend

TYPES = (np.float64, np.float32)


def backend_for(given: str | Backend | None, x: Any) -> Backend:
    """The backend asked for; the GPU's for an array of a GPU, and else the one in force."""
    if given is None and hasattr(x, "__cuda_array_interface__"):
        return get_backend("cupy")
    return get_backend(given)


def on_device(backend: Backend, x: Any) -> bool:
    """Whether an array is one of a backend that is not the host."""
    kind: Any = backend.array_type
    return kind is not np.ndarray and isinstance(x, kind)


def checked(estimator: Any, backend: Backend, x: Any, y: Any = None, **how: Any) -> Any:
    """x, or (x, y) where there is y, as scikit-learn checks them; x finite, in a floating type.

    What lies on the backend's device stays there, and is checked there; another x is sent to it.
    """
    reset = how.get("reset", True)
    if on_device(backend, x):
        return _checked_there(estimator, backend, x, y, reset)
    if backend.array_type is not np.ndarray and hasattr(x, "__cuda_array_interface__"):
        raise TypeError(f"X lies on a GPU, and backend is {backend.name!r}: leave backend out")
    how |= {"dtype": TYPES, "ensure_all_finite": False}
    if y is None:
        found = data = validate_data(estimator, x, **how)
    else:
        found = validate_data(estimator, x, y, **how)
        data = found[0]
    _check_finite(data, np, _get_feature_names(x))
    data = sent(backend, data)
    return data if y is None else (data, found[1])


def sent(backend: Backend, x: Any) -> Any:
    """An array on the backend's device, if it has one."""
    return x if backend.array_type is np.ndarray else backend.asarray(x)


def _checked_there(estimator: Any, backend: Backend, x: Array, y: Any, reset: bool) -> Any:
    if x.ndim != 2:
        raise ValueError(f"Expected 2D array, got {x.ndim}D: reshape it with X.reshape(n, -1)")
    if not len(x):
        raise ValueError("X has 0 sample(s), where a minimum of 1 is required")
    if reset:
        estimator.n_features_in_ = int(x.shape[1])
    elif x.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X has {x.shape[1]} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input"
        )
    if x.dtype not in TYPES:
        x = x.astype("float64" if x.dtype.itemsize > 4 else "float32")
    _check_finite(x, backend.xp, None)
    if y is None:
        return x
    if len(y) != len(x):
        raise ValueError(f"X has {len(x)} samples and y {len(y)}")
    return x, y


def _check_finite(x: Array, xp: Any, names: Any) -> None:
    """ValueError that names the first column with NaN or infinity."""
    with np.errstate(over="ignore", invalid="ignore"):
        finite = xp.isfinite(x)
    if bool(finite.all()):
        return
    columns = finite.all(axis=0)
    at = int(columns.argmin())
    what = "NaN" if bool(xp.isnan(x[:, at]).any()) else "infinity"
    name = at if names is None else f"{at} ({names[at]!r})"
    more = int((~columns).sum()) - 1
    rest = f" and {more} more" if more else ""
    raise ValueError(
        f"Input X contains {what} in column {name}{rest}: fill the gaps, with "
        "sklearn.impute.SimpleImputer for one, or leave those rows out"
    )
