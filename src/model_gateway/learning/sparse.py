"""What we use of SciPy, with types: it ships none. Sparse matrices, ridge regressions, clusters, a minimum."""

# pyright: basic

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.optimize import minimize
from scipy.sparse.linalg import lsqr

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Matrix = Any
"""A scipy.sparse.csr_matrix."""


def matrix(values: list[float], columns: list[int], ends: list[int], width: int) -> Matrix:
    """Row i holds `values` at `columns`, from ends[i] to ends[i + 1]."""
    return sp.csr_matrix((np.array(values), np.array(columns, dtype=np.int32), np.array(ends)), (len(ends) - 1, width))


def rows_of(columns: Matrix) -> int:
    return columns.shape[0]


def width_of(columns: Matrix) -> int:
    return columns.shape[1]


def occurrences(columns: Matrix) -> Integers:
    """In how many rows each column is not zero."""
    return np.bincount(columns.indices, minlength=columns.shape[1])


def chosen(columns: Matrix, places: Integers, weights: Floats) -> Matrix:
    """Those columns, each times its weight."""
    return columns[:, places] @ sp.diags(weights)


def beside(left: Matrix, right: Floats) -> Matrix:
    return sp.hstack([left, sp.csr_matrix(right)]).tocsr()


def above(upper: Matrix, lower: Matrix) -> Matrix:
    return sp.vstack([upper, lower]).tocsr()


def weighted_rows(columns: Matrix, weights: Floats) -> Matrix:
    return (sp.diags(weights) @ columns).tocsr()


def times(columns: Matrix, coefficients: Floats) -> Floats:
    return columns @ coefficients


def ridge(columns: Matrix, target: Floats, penalty: float) -> Floats:
    """argmin |columns · w − target|² + penalty · |w|², by LSQR; thirty steps are plenty at the penalties in use."""
    return lsqr(columns, target, damp=float(np.sqrt(penalty)), atol=1e-4, btol=1e-4, iter_lim=30)[0]


def dense_ridge(columns: Floats, target: Floats, penalty: float) -> Floats:
    """The same exactly, for few columns that are not sparse."""
    square = columns.T @ columns + penalty * np.eye(columns.shape[1])
    return np.asarray(np.linalg.solve(square, columns.T @ target), dtype=np.float64)


def clusters(points: Floats, count: int, seed: int) -> Integers:
    return kmeans2(points, count, minit="++", rng=np.random.default_rng(seed))[1]


def minimum(loss: Callable[[Floats], float], start: Floats) -> Floats:
    """Where `loss`, smooth and convex, is least: BFGS with numeric slopes, for a handful of parameters."""
    return minimize(loss, start).x
