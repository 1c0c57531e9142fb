"""Seeded problems for the conformance tests: arrays for the package and dense matrices for the oracle."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import scipy.sparse as sp
from dense import DenseModel, DenseTerm

from sparselmm import LinearMixedModel
from sparselmm.covariance import STRUCTURES


def lower(theta, k):
    """Fill a lower triangle by columns."""
    T = np.zeros((k, k))
    position = 0
    for column in range(k):
        for row in range(column, k):
            T[row, column] = theta[position]
            position += 1
    return T


# what each registered structure means, written from its documentation
TEMPLATES = {
    "us": (lambda k: k * (k + 1) // 2, lower),
    "diag": (lambda k: k, lambda theta, k: np.diag(theta)),
    "homdiag": (lambda k: 1, lambda theta, k: theta[0] * np.eye(k)),
}


@dataclass(frozen=True)
class TermSpec:
    """One random term: ``kind`` says how rows are spread over its levels."""

    m: int
    k: int = 1
    structure: str = "us"
    kind: str = "crossed"


@dataclass(frozen=True)
class Case:
    """A recipe; `build` is deterministic in it.

    ``slack`` multiplies tolerances: the square of the condition of X where that is large.
    """

    name: str
    terms: tuple[TermSpec, ...]
    n: int = 60
    p: int = 2
    weighted: bool = False
    shifted: bool = False
    x: str = "normal"
    z: str = "normal"
    seed: int = 1
    slack: float = 1.0

    @property
    def grouped(self) -> bool:
        """Whether some term is given by a factor, so that its block of Z'WZ is block diagonal."""
        return any(t.kind != "membership" for t in self.terms)


@dataclass(frozen=True)
class Problem:
    """A case made into numbers; terms are in the documented order (decreasing m, ties as given)."""

    case: Case
    model: DenseModel
    arguments: tuple
    options: dict
    specs: tuple[TermSpec, ...]

    def fitted_model(self, solver=None) -> LinearMixedModel:
        return LinearMixedModel.from_arrays(*self.arguments, **self.options, solver=solver)

    @property
    def n_theta(self):
        return sum(TEMPLATES[s.structure][0](s.k) for s in self.specs)

    def split(self, theta):
        sizes = [TEMPLATES[s.structure][0](s.k) for s in self.specs]
        return np.split(np.asarray(theta, dtype=float), np.cumsum(sizes)[:-1])

    def templates(self, theta):
        """Return the template of each term in the user's coordinates."""
        return [TEMPLATES[s.structure][1](x, s.k) for s, x in zip(self.specs, self.split(theta))]

    def dense(self, theta, reml):
        return self.model.at(self.templates(theta), reml)

    def directions(self):
        """Return the derivative of all templates with respect to each entry of θ."""
        zero = np.zeros(self.n_theta)
        base = self.templates(zero)
        return [[T - B for T, B in zip(self.templates(zero + unit), base)] for unit in np.eye(self.n_theta)]


@cache
def build(case: Case) -> Problem:
    rng = np.random.default_rng([case.seed, case.n, case.p, len(case.terms)])
    n = case.n
    X = _fixed(case, rng)
    inputs, dense = [], []
    codes: list[np.ndarray] = []
    for i, spec in enumerate(case.terms):
        if spec.kind == "membership":
            matrix = _membership(spec, n, rng)
            Z = matrix.toarray()
            inputs.append({"matrix": sp.csr_array(matrix), "k": spec.k, "name": f"g{i}", "structure": spec.structure})
        else:
            codes.append(_codes(spec, n, rng, codes))
            small = _slopes(case, spec, rng)
            Z = np.zeros((n, spec.m, spec.k))
            Z[np.arange(n), codes[-1]] = small
            inputs.append(
                {
                    "groups": codes[-1],
                    "Z": small,
                    "name": f"g{i}",
                    "structure": spec.structure,
                    "columns": [f"c{i}_{j}" for j in range(spec.k)],
                }
            )
        dense.append(DenseTerm(Z.reshape(n, -1), spec.m, spec.k))
    weights = rng.gamma(2.0, 0.5, n) + 0.05 if case.weighted else None
    offset = 3.0 * rng.standard_normal(n) if case.shifted else None
    effects = sum(t.Z @ (rng.standard_normal(t.m * t.k) * 0.7 / max(1.0, np.abs(t.Z).max())) for t in dense)
    y = X @ rng.standard_normal(case.p) + effects + rng.standard_normal(n) + (0 if offset is None else offset)
    order = sorted(range(len(case.terms)), key=lambda i: -case.terms[i].m)
    model = DenseModel(
        y=y,
        X=X,
        terms=tuple(dense[i] for i in order),
        weights=np.ones(n) if weights is None else weights,
        offset=np.zeros(n) if offset is None else offset,
    )
    options = {"weights": weights, "offset": offset}
    return Problem(case, model, (y, X if case.p else None, inputs), options, tuple(case.terms[i] for i in order))


def _fixed(case, rng):
    X = rng.standard_normal((case.n, case.p))
    if case.p and case.x != "no constant":
        X[:, 0] = 1.0
    if case.x == "year":
        X[:, 1] = rng.integers(1990, 2020, case.n)
    if case.x == "nearly dependent":
        X[:, -1] = X[:, 0] + X[:, 1] + 1e-5 * X[:, -1]
    if case.x == "scales":
        X[:, 1:] *= 10.0 ** np.arange(-4, 2 * case.p - 6, 2)[: case.p - 1]
    return X


def _codes(spec, n, rng, earlier):
    """Return a level for each row, every level used."""
    if spec.kind == "nested":  # levels of this factor contain those of the first
        return earlier[0] % spec.m
    if spec.kind == "same":
        return earlier[0]
    if spec.kind == "single":  # level 0 has all rows but one each for the others
        codes = np.zeros(n, dtype=int)
        codes[: spec.m - 1] = np.arange(1, spec.m)
        return codes
    codes = np.concatenate([np.arange(spec.m), rng.integers(0, spec.m, n - spec.m)])
    return rng.permutation(codes)


def _slopes(case, spec, rng):
    Z = rng.standard_normal((case.n, spec.k))
    if case.z != "no constant":
        Z[:, 0] = 1.0
    if case.z == "year" and spec.k > 1:
        Z[:, 1] = rng.integers(1990, 2020, case.n)
    return Z


def _membership(spec, n, rng):
    """Return a Z in which each row belongs to two levels with weights of its own."""
    Z = np.zeros((n, spec.m, spec.k))
    for i in range(n):
        for level in rng.choice(spec.m, 2, replace=False):
            Z[i, level] = rng.uniform(0.2, 1.0) * np.append(1.0, rng.standard_normal(spec.k - 1))
    return sp.csr_array(Z.reshape(n, -1))


T = TermSpec
CASES = (
    Case("one intercept", (T(9),)),
    Case("one intercept, p = 0", (T(9),), p=0),
    Case("no constant in X", (T(9), T(5)), p=3, x="no constant"),
    Case("crossed intercepts, weights", (T(14), T(9)), weighted=True),
    Case("three crossed, offset", (T(12), T(7), T(4)), shifted=True, p=3),
    Case("nested", (T(16), T(4, kind="nested")), p=1),
    Case(
        "three nested, weights, offset",
        (T(16), T(8, kind="nested"), T(4, kind="nested")),
        weighted=True,
        shifted=True,
    ),
    Case("slopes", (T(8, 2),), p=2),
    Case("slopes k = 3, weights", (T(7, 3),), p=5, weighted=True),
    Case("slopes crossed with slopes", (T(8, 2), T(6, 3)), n=80, p=3),
    Case("slopes nested in slopes, weights", (T(12, 2), T(4, 2, kind="nested")), n=70, weighted=True),
    Case("smaller term has slopes", (T(15), T(5, 3)), n=70, shifted=True),
    Case("slopes without a constant", (T(9, 2), T(5)), z="no constant"),
    Case("double bar", (T(9), T(9, kind="same")), z="no constant"),
    Case("same levels, slopes, and a third", (T(9, 2), T(9, kind="same"), T(6, 2)), n=70, z="no constant"),
    Case("diagonal", (T(8, 3, "diag"),), p=3),
    Case("diagonal and homogeneous", (T(9, 2, "diag"), T(5, 3, "homdiag")), weighted=True),
    Case("homogeneous and unstructured", (T(10, 2, "homdiag"), T(6, 2)), shifted=True),
    Case("memberships", (T(10, kind="membership"),)),
    Case("memberships with slopes, crossed", (T(8, 2, kind="membership"), T(6)), weighted=True),
    Case("memberships, diagonal, crossed slopes", (T(6, 2, "diag", "membership"), T(12, 2)), n=70),
    Case("levels of one row", (T(20, kind="single"), T(5)), n=50),
    Case("year as slope", (T(8, 2),), x="year", z="year"),
    Case("year as slope, crossed, weights", (T(9, 2), T(6, 2)), n=70, x="year", z="year", weighted=True),
    Case("year in a diagonal term", (T(9, 2, "diag"), T(6)), z="year"),
    Case("nearly dependent columns", (T(9), T(5)), p=4, x="nearly dependent", slack=1e4),
    Case("columns of all scales", (T(9, 2),), p=5, x="scales"),
    Case("p close to n", (T(5),), n=14, p=5),
)


def thetas(problem, count=3, seed=0):
    """Return regular random θ (positive diagonals), on the scale of each column of Z."""
    rng = np.random.default_rng([problem.case.seed, seed])
    out = []
    for _ in range(count):
        parts = []
        for spec, term in zip(problem.specs, problem.model.terms):
            size = np.sqrt((term.Z.reshape(-1, spec.m, spec.k) ** 2).sum(axis=1).mean(axis=0))
            rough = np.tril(rng.normal(0, 0.5, (spec.k, spec.k)), -1) + np.diag(rng.uniform(0.3, 1.5, spec.k))
            parts.append(_entries(spec, rough / size[:, None]))
        out.append(np.concatenate(parts))
    return out


def _entries(spec, T):
    if spec.structure == "us":
        return np.concatenate([T[j:, j] for j in range(spec.k)])
    return np.diag(T) if spec.structure == "diag" else np.diag(T)[:1]


def singular_thetas(problem):
    """Return θ = 0, each diagonal entry zeroed alone, and each whole column (in its term) zeroed."""
    theta = thetas(problem, 1, seed=5)[0]
    out = [np.zeros_like(theta)]
    start = 0
    for spec in problem.specs:
        count, make = TEMPLATES[spec.structure]
        for j in range(spec.k):
            entries = [e for e in range(count(spec.k)) if make(np.eye(count(spec.k))[e], spec.k)[:, j].any()]
            diagonal = [e for e in entries if make(np.eye(count(spec.k))[e], spec.k)[j, j]]
            for zeroed in (entries, diagonal):
                point = theta.copy()
                point[start + np.array(zeroed)] = 0.0
                out.append(point)
        start += count(spec.k)
    return [np.array(x) for x in dict.fromkeys(map(tuple, out))]


def covers_all_structures() -> bool:
    """Return whether every registered structure is explained above and used by some case."""
    return set(TEMPLATES) == set(STRUCTURES) == {t.structure for case in CASES for t in case.terms}


def par_templates(problem, parameters, par):
    """Return templates in the user's coordinates, and their derivatives, of free parameters.

    A structure may optimize in coordinates of its own, b = C b_c; the oracle needs no triangular templates.
    """
    C = [s.reported_modes(np.eye(s.k)).T for s in parameters.structures]
    templates = [c @ T for c, T in zip(C, problem.templates(par))]
    directions = [[c @ D for c, D in zip(C, direction)] for direction in problem.directions()]
    return C, templates, directions
