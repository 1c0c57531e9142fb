"""Cross-products of parts of the rows: other coordinates, sums, differences, chunks."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from sparselmm.covariance import make_structure
from sparselmm.covariance.parameters import ParameterMap
from sparselmm.data import build_design, design_from_arrays
from sparselmm.data.formulas import parse_formula
from sparselmm.data.rows import GroupedTerm, Rows, is_ones_column, ones_column
from sparselmm.data.tables.columns import Factor
from sparselmm.exceptions import DataError, DataWarning
from sparselmm.likelihood.criterion import ML, REML
from sparselmm.likelihood.pls import PenalizedLeastSquares
from sparselmm.linalg import make_system
from sparselmm.statistics.crossproducts import Accumulator, CrossProducts
from sparselmm.statistics.levels import union
from sparselmm.statistics.transform import Centre, FixedTransform, centre_change

N = 600


def table(seed: int = 1) -> pd.DataFrame:
    """Return rows whose covariate drifts by thirty standard deviations, in file order."""
    rng = np.random.default_rng(seed)
    d = pd.DataFrame(
        {
            "u": np.char.add("u", rng.integers(0, 60, N).astype(str)),
            "i": rng.integers(0, 25, N),
            "s": np.char.add("s", rng.integers(0, 8, N).astype(str)),
            "f": rng.choice(list("abc"), N),
            "t": rng.standard_normal(N) + np.linspace(0.0, 30.0, N),
            "z": rng.standard_normal(N) + 50.0,
            "w": rng.uniform(0.5, 2.0, N),
        }
    )
    d["y"] = (
        0.3 * d["t"]
        + d["i"].to_numpy() % 5
        + rng.standard_normal(N)
        + rng.standard_normal(60)[d["u"].str[1:].astype(int)]
    )
    return d


CASES = {
    "plain": ("y ~ t + f + (1 | u) + (1 | i)", {}),
    "weights and offset": ("y ~ t + f + offset(z) + (1 | u) + (1 | i)", {"weights": "w"}),
    "slopes": ("y ~ t + z + (1 + z | u) + (1 | i)", {}),
    "slopes far from zero, in two terms": ("y ~ t + (0 + z + f | i) + (1 + t || u)", {"weights": "w"}),
    "three factors": ("y ~ t + (1 | u) + (1 | i) + (1 | s)", {}),
    "terms that change places": ("y ~ t + (1 | s:f) + (1 | i)", {}),
}


def observed(formula, shift=0.0, **options) -> Rows:
    data = table()
    data["y"] += shift
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build_design(parse_formula(formula), data, **options)[1].rows


def part(rows: Rows, at) -> Rows:
    """Return some of the rows as a chunk read by itself has them: with the levels that occur there only."""
    terms = []
    for t in rows.terms:
        if isinstance(t, GroupedTerm):
            here = Factor(t.codes[at], t.levels).drop_unused()
            Z = ones_column(len(here.codes)) if is_ones_column(t.Z) else t.Z[at]
            terms.append(replace(t, codes=here.codes, levels=here.levels, Z=Z))
        else:
            terms.append(replace(t, matrix=t.matrix[at]))
    picked = {name: None if (x := getattr(rows, name)) is None else x[at] for name in ("weights", "offset")}
    # a chunk has its terms in the order of its own numbers of levels
    terms.sort(key=lambda t: -t.m)
    return replace(rows, y=rows.y[at], X=rows.X[at], terms=tuple(terms), **picked)


def accumulated(rows: Rows, cuts) -> CrossProducts:
    total = Accumulator(pilot_rows=40)
    for at in np.split(np.arange(rows.n), cuts):
        if len(at):
            total.update(part(rows, at))
    return total.finish()


def criterion(xp: CrossProducts, scale: float, reml=True) -> float:
    """Return the criterion at a fixed point in the user's coordinates."""
    structures = [
        make_structure(t.structure, t.k, None if c is None else (c.position, c.multiples))
        for t, c in zip(xp.terms, xp.centres)
    ]
    parameters = ParameterMap(tuple(structures))
    # I for every term; a centred structure changes its coordinates itself
    plain = [make_structure(t.structure, t.k) for t in xp.terms]
    theta = np.concatenate([s.theta(s.nearest(np.eye(s.k))) for s in plain])
    pls = PenalizedLeastSquares(xp, parameters, make_system(xp.gram))
    return pls.value(pls.solve(parameters.par(scale * theta)), REML if reml else ML)


def assert_same(found: CrossProducts, whole: CrossProducts, tolerance: float = 1e-7) -> None:
    assert found.n == whole.n
    assert [t.name for t in found.terms] == [t.name for t in whole.terms]
    for a, b in zip(found.terms, whole.terms):
        assert list(a.levels) == list(b.levels)
    for key, pair in whole.gram.pairs.items():
        np.testing.assert_array_equal(found.gram.pairs[key].rows, pair.rows)
        np.testing.assert_array_equal(found.gram.pairs[key].cols, pair.cols)
        if whole.counts is not None:
            np.testing.assert_array_equal(found.counts[key], whole.counts[key])
    for scale in (0.3, 1.0):
        for reml in (True, False):
            value = criterion(whole, scale, reml)
            assert criterion(found, scale, reml) == pytest.approx(value, abs=tolerance * max(1.0, abs(value) / 1e6))


def cuttings():
    """Return twenty ways to cut the rows: equal parts, single rows, one large part, at random."""
    rng = np.random.default_rng(11)
    out = [np.arange(size, N, size) for size in (1, 7, 50, 100, 199, 300, 599)]
    out += [[1], [599], [1, 2, 3], [10, 590], [300, 301]]
    return out + [np.sort(rng.integers(0, N, rng.integers(1, 40))) for _ in range(8)]


class TestChunks:
    @pytest.mark.parametrize("case", CASES)
    def test_any_chunks_are_the_whole(self, case):
        formula, options = CASES[case]
        rows = observed(formula, **options)
        whole = CrossProducts.from_rows(rows, counted=True)
        for cuts in cuttings():
            assert_same(accumulated(rows, cuts), whole)

    @pytest.mark.parametrize("case", ["plain", "slopes"])
    def test_a_response_far_from_zero(self, case):
        rows = observed(CASES[case][0], 1e6, **CASES[case][1])
        whole = CrossProducts.from_rows(rows, counted=True)
        for cuts in cuttings()[::3]:
            assert_same(accumulated(rows, cuts), whole, 2e-7)

    @pytest.mark.parametrize("pilot", [0, 3, 7])
    def test_pilots_of_other_chunks(self, pilot):
        """The coordinates are those of one chunk; the drift takes the others thirty deviations away."""
        rows = observed(*CASES["weights and offset"][:1], weights="w")
        parts = np.array_split(np.arange(N), 8)
        total = Accumulator(pilot_rows=40)
        for at in [parts[pilot], *parts[:pilot], *parts[pilot + 1 :]]:
            total.update(part(rows, at))
        assert_same(total.finish(), CrossProducts.from_rows(rows, counted=True))

    def test_memberships(self):
        rng = np.random.default_rng(5)
        matrix = sp.csr_array(np.kron(rng.integers(0, 3, (90, 6)), np.ones((1, 2))) * rng.standard_normal((90, 12)))
        g, y = rng.integers(0, 9, 90), rng.standard_normal(90)
        rows = design_from_arrays(y, np.ones((90, 1)), [(matrix, 2), (g, None)], weights=rng.uniform(1, 2, 90)).rows
        whole = CrossProducts.from_rows(rows, counted=True)
        touched = (np.abs(matrix.toarray()).reshape(90, 6, 2).sum(axis=2) > 0).astype(int)
        t = [x.m for x in rows.terms].index(6)
        pair = whole.gram.pairs[t, t]
        np.testing.assert_array_equal(whole.counts[t, t], (touched.T @ touched)[pair.rows, pair.cols])
        assert_same(accumulated(rows, [20, 21, 60]), whole)

    def test_counts_are_rows(self):
        rows = observed(*CASES["slopes far from zero, in two terms"][:1], weights="w")
        xp = CrossProducts.from_rows(rows, counted=True)
        for (i, j), pair in xp.gram.pairs.items():
            a, b = rows.terms[i].codes, rows.terms[j].codes
            expected = [int(np.sum((a == r) & (b == c))) for r, c in zip(pair.rows[:40], pair.cols[:40])]
            assert xp.counts[i, j][:40].tolist() == expected
            assert xp.counts[i, j].sum() == rows.n

    def test_no_rows_are_an_error(self):
        with pytest.raises(DataError, match="no rows"):
            Accumulator().finish()


class TestSums:
    def parts(self, case="plain", pieces=8):
        formula, options = CASES[case]
        rows = observed(formula, **options)
        cut = np.array_split(np.arange(N), pieces)
        return rows, [CrossProducts.from_rows(part(rows, at), counted=True) for at in cut]

    @pytest.mark.parametrize("case", CASES)
    def test_parts_with_pilots_of_their_own_in_any_order(self, case):
        rows, parts = self.parts(case)
        whole = CrossProducts.from_rows(rows, counted=True)
        for seed in range(4):
            order = np.random.default_rng(seed).permutation(8)
            total = parts[order[0]]
            for i in order[1:]:
                total = total + parts[i]
            names = [t.name for t in total.terms]
            assert_same(total.to_least_squares().ordered([names.index(t.name) for t in whole.terms]), whole)

    @pytest.mark.parametrize("case", CASES)
    def test_what_was_added_can_be_taken_away(self, case):
        _, (a, b, c) = self.parts(case, 3)
        assert_same((a + b - b).to_least_squares(), a.to_least_squares())
        names = [t.name for t in c.terms]
        left = (b + c + a) - (a + b)
        left = left.ordered([[t.name for t in left.terms].index(name) for name in names])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            assert_same(left.to_least_squares(), c.to_least_squares())

    def test_levels_and_pairs_without_rows_go(self):
        rows, _ = self.parts()
        first = rows.terms[0].codes < 7
        a, b = (CrossProducts.from_rows(part(rows, np.flatnonzero(x)), counted=True) for x in (first, ~first))
        left = a + b - b
        assert list(left.terms[0].levels) == list(a.terms[0].levels)
        assert left.gram.m == a.gram.m
        assert left.ZtWXy.shape == a.ZtWXy.shape

    def test_rows_that_were_never_in_are_named(self):
        rows, (a, b, *_) = self.parts()
        with pytest.raises(DataError, match=r"are not there: . has no level"):
            a - b
        own = part(rows, np.arange(75))
        i, j = own.terms[0].levels[own.terms[0].codes[0]], own.terms[1].levels[own.terms[1].codes[0]]
        twice = CrossProducts.from_rows(part(rows, np.zeros(9, dtype=int)), counted=True)
        with pytest.raises(DataError, match=rf"are not there: .* {i!r}.* would have -\d+ rows") as caught:
            a - twice
        assert str(j)  # the level of the other factor may be the one named first
        assert "rows" in str(caught.value)

    def test_taking_most_away_is_said(self):
        _, (a, b, c) = self.parts(pieces=3)
        with pytest.warns(DataWarning, match="more than half of the sum of squares"):
            (a + b + c) - (b + c)

    def test_sums_without_counts_add_but_do_not_subtract(self):
        rows = observed(CASES["plain"][0])
        a, b = (CrossProducts.from_rows(part(rows, at)) for at in np.array_split(np.arange(N), 2))
        assert (a + b).counts is None
        assert_same((a + b).to_least_squares(), CrossProducts.from_rows(rows))
        with pytest.raises(DataError, match="counted=True"):
            (a + b) - b

    @pytest.mark.parametrize(
        "formula", ["y ~ t + (1 | u) + (1 | i)", "y ~ t + f + (1 | u) + (1 | s)", "y ~ t + f + (1 + z | u) + (1 | i)"]
    )
    def test_other_models_are_refused(self, formula):
        a = CrossProducts.from_rows(observed(CASES["plain"][0]))
        with pytest.raises(DataError, match="different models"):
            a + CrossProducts.from_rows(observed(formula))


class TestCoordinates:
    @pytest.mark.parametrize("case", CASES)
    def test_sums_in_other_coordinates_are_sums_of_rows_there(self, case):
        rows = observed(*CASES[case][:1], **CASES[case][1])
        xp = CrossProducts.from_rows(rows)
        p = rows.p
        rng = np.random.default_rng(0)
        centre = rng.standard_normal(p) * 3
        centre[0] = 0.0
        mix = np.triu(rng.standard_normal((p, p))) + 3 * np.eye(p)
        basis = FixedTransform(0, centre, np.exp2(rng.integers(-3, 3, p)), rng.standard_normal(p), mix)
        centres = tuple(Centre(t.k - 1, (*rng.standard_normal(t.k - 1), 0.0)) if t.k > 1 else None for t in rows.terms)
        moved, wanted = xp.rebase(basis, centres), CrossProducts.from_rows(rows, basis, centres)
        for name in ("XytWXy", "ZtWXy"):
            size = np.abs(getattr(wanted, name)).max()
            np.testing.assert_allclose(getattr(moved, name), getattr(wanted, name), atol=1e-11 * size)
        for key, pair in wanted.gram.pairs.items():
            size = np.abs(pair.values).max()
            np.testing.assert_allclose(moved.gram.pairs[key].values, pair.values, atol=1e-11 * size)
        back = moved.rebase(xp.basis, xp.centres)
        np.testing.assert_allclose(back.XytWXy, xp.XytWXy, atol=1e-9 * np.abs(wanted.XytWXy).max())

    @settings(deadline=None, max_examples=50)
    @given(st.integers(0, 10_000), st.integers(1, 5), st.booleans(), st.booleans())
    def test_k_takes_transformed_rows_to_transformed_rows(self, seed, p, mixed, same_place):
        rng = np.random.default_rng(seed)
        X, y = np.column_stack([rng.standard_normal((9, p - 1)), np.ones(9)]), rng.standard_normal(9)

        def transform(position):
            centre = rng.standard_normal(p)
            centre[position] = 0.0
            mix = np.triu(rng.standard_normal((p, p))) + 4 * np.eye(p) if mixed else None
            return FixedTransform(position, centre, np.exp2(rng.integers(-3, 3, p)), rng.standard_normal(p), mix)

        a, b = transform(p - 1), transform(p - 1 if same_place else 0)
        rows = [np.column_stack([t.apply(X), y - t.apply(X) @ t.b0]) for t in (a, b)]
        np.testing.assert_allclose(rows[0] @ a.change(b), rows[1], atol=1e-9)

    def test_near_pilots_make_nearly_an_identity(self):
        """No raw sum is formed: centres a million away change K by their difference alone."""
        far = FixedTransform(0, np.array([0.0, 1e6]), np.array([1.0, 0.5]), np.array([2.0, 3.0]))
        near = replace(far, centre=np.array([0.0, 1e6 + 2**-10]), b0=np.array([2.0, 3.0 + 2**-20]))
        expected = [[1.0, -0.5 * 2**-10, 0.5 * 2**-10 * (3 + 2**-20)], [0.0, 1.0, -(2.0**-20)], [0.0, 0.0, 1.0]]
        np.testing.assert_array_equal(far.change(near), expected)

    def test_centres_of_terms(self):
        Z = np.column_stack([np.ones(4), np.arange(4.0), np.arange(4.0) ** 2])
        a, b = Centre(0, (0.0, 2.0, 5.0)), Centre(0, (0.0, -1.0, 0.0))

        def centred(c):
            return Z if c is None else Z - np.outer(Z[:, c.position], c.multiples)

        for old, new in permutations((a, b, None), 2):
            np.testing.assert_allclose(centred(old) @ centre_change(old, new, 3), centred(new), atol=1e-12)


class TestLevels:
    @settings(deadline=None)
    @given(st.sets(st.integers(-50, 50)), st.sets(st.integers(-50, 50)))
    def test_union_of_sorted_levels_is_sorted(self, a, b):
        first, second = (pd.Index(sorted(x), dtype=np.int64) for x in (a, b))
        levels, at, there = union(first, second)
        assert levels.tolist() == sorted(a | b)
        assert levels[at].tolist() == first.tolist()
        assert levels[there].tolist() == second.tolist()

    def test_text_goes_by_code_point(self):
        assert list(union(pd.Index(["B", "a"]), pd.Index(["Z", "b"]))[0]) == ["B", "Z", "a", "b"]

    def test_an_order_of_its_own_is_kept(self):
        low = pd.Index(["low", "high"])
        assert list(union(low, pd.Index(["low", "mid", "high"]))[0]) == ["low", "mid", "high"]
        assert list(union(low, pd.Index(["none", "low", "most"]))[0]) == ["none", "low", "most", "high"]
