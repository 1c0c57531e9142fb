"""Cross-products of the design: everything the criterion needs of the n rows, formed once.

Columns of X far from zero are centred (where X has a constant column) and scaled, and the response
enters as ``y - o - X b0`` with b0 the weighted least-squares fit, so the sums hold no large common
parts that would cancel (architecture, "numerical guard"). Centres are rounded to few binary digits
and scales are powers of two: products of integers and dummies stay exact. `FixedTransform` undoes both.

Sums of parts of the rows in different coordinates are added, or taken away, after an exact change of coordinates
(`transform`) and of the numbers of the levels (`levels`). `Accumulator` does so for chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sparselmm._typing import FloatArray, IntArray, frozen
from sparselmm.data.layout import TermLayout
from sparselmm.data.rows import GroupedTerm, Rows
from sparselmm.data.tables.codes import chunks
from sparselmm.exceptions import DataError, DataWarning, warn_user
from sparselmm.linalg.blocks import BlockGram
from sparselmm.statistics.levels import union
from sparselmm.statistics.moments import (
    CHUNK_ROWS,
    add_term_products,
    pilot_basis,
    sum_of_logs,
    transformed,
)
from sparselmm.statistics.pairs import PairSums
from sparselmm.statistics.transform import Centre, FixedTransform, centre_change, find_centre, with_centred_terms

PILOT_ROWS = 1_000  # enough for centres and scales; the rest of the rows may lie thirty deviations away


@dataclass(frozen=True)
class CrossProducts:
    """Sufficient statistics of the rows of a design.

    Attributes
    ----------
    gram : BlockGram
        Z'WZ by blocks.
    ZtWXy : (q, p + 1) array
        Z'W[X y], transformed.
    XytWXy : (p + 1, p + 1) array
        [X y]'W[X y], transformed.
    n, p : int
        Rows and fixed-effects columns.
    sum_log_weights : float
        Σ log w.
    basis : FixedTransform
        The transformation of X and y.
    centres : tuple of Centre or None
        The transformation of each term's Z.
    terms : tuple of TermLayout
        Names and levels of the random terms.
    counts : dict or None
        Rows of each pair of levels, aligned with ``gram.pairs``; None where they were not counted.
    """

    gram: BlockGram
    ZtWXy: FloatArray
    XytWXy: FloatArray
    n: int
    p: int
    sum_log_weights: float
    basis: FixedTransform
    centres: tuple[Centre | None, ...] = ()
    terms: tuple[TermLayout, ...] = ()
    counts: dict[tuple[int, int], IntArray] | None = None

    @classmethod
    def from_rows(
        cls,
        observed: Rows,
        basis: FixedTransform | None = None,
        centres: tuple[Centre | None, ...] | None = None,
        counted: bool = False,
    ) -> CrossProducts:
        """Sum the products of all rows, in chunks; ``basis`` and ``centres`` fix the transformations.

        ``counted`` sums can be taken away from others, which needs the number of rows of each pair of levels.
        """
        centres = tuple(find_centre(t) for t in observed.terms) if centres is None else centres
        observed = with_centred_terms(observed, centres)
        basis = basis or pilot_basis(observed)
        m, k = tuple(t.m for t in observed.terms), tuple(t.k for t in observed.terms)
        offsets = np.concatenate([[0], np.cumsum(np.array(m, dtype=np.int64) * np.array(k, dtype=np.int64))])
        p = observed.p
        ZtWXy = np.zeros((int(offsets[-1]), p + 1))
        XytWXy = np.zeros((p + 1, p + 1))
        for rows in chunks(observed.n, CHUNK_ROWS):
            Xy, WXy = transformed(observed, basis, rows)
            XytWXy += Xy.T @ WXy
            for t, term in enumerate(observed.terms):
                add_term_products(term, WXy, rows, ZtWXy[offsets[t] : offsets[t + 1]])
        sums = {
            (i, j): PairSums.of(observed.terms[i], observed.terms[j], observed.weights, counted)
            for i in range(len(m))
            for j in range(i + 1)
        }
        plain = cls(
            gram=BlockGram(m, k, {}),
            ZtWXy=frozen(ZtWXy),
            XytWXy=frozen(XytWXy),
            n=observed.n,
            p=p,
            sum_log_weights=sum_of_logs(observed.weights),
            basis=basis,
            centres=centres,
            terms=tuple(t.layout for t in observed.terms),
        )
        return plain._with_pairs(sums)

    def _with_pairs(self, sums: dict[tuple[int, int], PairSums]) -> CrossProducts:
        """Return these with other sums over pairs of levels."""
        counts = {key: pair.counts for key, pair in sums.items() if pair.counts is not None}
        gram = BlockGram(self.gram.m, self.gram.k, {key: pair.blocks for key, pair in sums.items()})
        return replace(self, gram=gram, counts=counts if len(counts) == len(sums) else None)

    def _pairs(self) -> dict[tuple[int, int], PairSums]:
        counts = self.counts or {}
        return {(i, j): PairSums(b, counts.get((i, j)), i == j) for (i, j), b in self.gram.pairs.items()}

    def with_response(self, observed: Rows, y: FloatArray) -> CrossProducts:
        """Return the cross-products of the same design with another response; Z and X parts are shared."""
        observed = with_centred_terms(replace(observed, y=y), self.centres)
        p = self.p
        basis = replace(self.basis, b0=np.zeros(p))
        right = np.zeros(p)
        for rows in chunks(observed.n, CHUNK_ROWS):
            Xy, WXy = transformed(observed, basis, rows)
            right += Xy[:, :p].T @ WXy[:, p]
        if p:
            basis = replace(basis, b0=frozen(np.linalg.lstsq(self.XytWXy[:p, :p], right)[0]))
        ZtWXy, XytWXy, Zty = self.ZtWXy.copy(), self.XytWXy.copy(), np.zeros((self.gram.q, 1))
        XytWXy[p], XytWXy[:, p] = 0.0, 0.0
        for rows in chunks(observed.n, CHUNK_ROWS):
            Xy, WXy = transformed(observed, basis, rows)
            XytWXy[:, p] += Xy.T @ WXy[:, p]
            for t, term in enumerate(observed.terms):
                a, b = self.gram.offsets[t], self.gram.offsets[t + 1]
                add_term_products(term, WXy[:, p:], rows, Zty[a:b])
        ZtWXy[:, p:], XytWXy[p] = Zty, XytWXy[:, p]
        return replace(self, ZtWXy=frozen(ZtWXy), XytWXy=frozen(XytWXy), basis=basis)

    # --- other coordinates ---------------------------------------------------------------------

    def rebase(self, basis: FixedTransform, centres: tuple[Centre | None, ...]) -> CrossProducts:
        """Return the sums of the same rows in other coordinates, exactly: K'TK, R'SK and R_s'GR_t."""
        k = self.gram.k
        K = self.basis.change(basis)
        R = [centre_change(a, b, size) for a, b, size in zip(self.centres, centres, k)]
        S = self.ZtWXy @ K
        for t, change in enumerate(R):
            a, b = self.gram.offsets[t], self.gram.offsets[t + 1]
            if self.centres[t] != centres[t]:
                S[a:b] = (change.T @ S[a:b].reshape(self.gram.m[t], k[t], -1)).reshape(b - a, -1)
        moved = replace(self, ZtWXy=frozen(S), XytWXy=frozen(K.T @ self.XytWXy @ K), basis=basis, centres=centres)
        if self.centres == centres:
            return moved
        return moved._with_pairs({(i, j): pair.changed(R[i], R[j]) for (i, j), pair in self._pairs().items()})

    def to_least_squares(self) -> CrossProducts:
        """Return the sums with b0 the least-squares fit to these rows."""
        if not self.p:
            return self
        T = self.XytWXy
        b0 = self.basis.b0 + np.linalg.lstsq(T[:-1, :-1], T[:-1, -1])[0]
        return self.rebase(replace(self.basis, b0=frozen(b0)), self.centres)

    def ordered(self, order: Sequence[int]) -> CrossProducts:
        """Return the sums with the random terms in another order."""
        if list(order) == list(range(len(order))):
            return self
        known, at = self._pairs(), self.gram.offsets
        sums = {}
        for i, s in enumerate(order):
            for j, t in enumerate(order[: i + 1]):
                sums[i, j] = known[s, t] if s >= t else known[t, s].transposed()
        m, k = ([x[t] for t in order] for x in (self.gram.m, self.gram.k))
        moved = replace(
            self,
            gram=BlockGram(tuple(m), tuple(k), {}),
            ZtWXy=frozen(np.concatenate([self.ZtWXy[at[t] : at[t + 1]] for t in order])),
            centres=tuple(self.centres[t] for t in order),
            terms=tuple(self.terms[t] for t in order),
        )
        return moved._with_pairs(sums)

    def _relabelled(self, terms: tuple[TermLayout, ...], maps: Sequence[IntArray]) -> CrossProducts:
        """Return the sums for other sets of levels, given the place of each level among them."""
        if all(new.levels is old.levels for new, old in zip(terms, self.terms)):
            return self
        m, k, at = tuple(t.m for t in terms), self.gram.k, self.gram.offsets
        parts = []
        for t, place in enumerate(maps):
            block = np.zeros((m[t], k[t], self.p + 1))
            block[place] = self.ZtWXy[at[t] : at[t + 1]].reshape(-1, k[t], self.p + 1)
            parts.append(block.reshape(-1, self.p + 1))
        sums = {(i, j): pair.relabelled(maps[i], maps[j]) for (i, j), pair in self._pairs().items()}
        moved = replace(self, gram=BlockGram(m, k, {}), ZtWXy=frozen(np.concatenate(parts)), terms=terms)
        return moved._with_pairs(sums)

    # --- sums and differences --------------------------------------------------------------------

    def __add__(self, other: CrossProducts) -> CrossProducts:
        """Return the sums of two sets of rows, in the coordinates of the first; levels are joined."""
        other = self._alike(other)
        joined = [union(a.levels, b.levels) for a, b in zip(self.terms, other.terms)]
        terms = tuple(replace(t, levels=levels) for t, (levels, _, _) in zip(self.terms, joined))
        a, b = self._relabelled(terms, [x for _, x, _ in joined]), other._relabelled(terms, [y for _, _, y in joined])
        return a._merged(b, 1)

    def __sub__(self, other: CrossProducts) -> CrossProducts:
        """Return the sums without some of their rows; pairs and levels that have no rows any more go.

        Raises
        ------
        DataError
            When rows to be taken away are not among these.
        """
        other = self._alike(other)
        if self.counts is None or other.counts is None:
            raise DataError("rows can be taken away only where those of each pair were counted (counted=True)")
        maps = []
        for a, b in zip(self.terms, other.terms):
            place = a.levels.get_indexer(b.levels)
            if np.any(place < 0):
                level = b.levels[int(np.argmin(place))]
                raise DataError(f"rows to be taken away are not there: {a.label} has no level {level!r}")
            maps.append(place)
        left = self._merged(other._relabelled(self.terms, maps), -1)
        left._refuse_negative()
        if 2.0 * other.XytWXy[-1, -1] > self.XytWXy[-1, -1]:
            warn_user(
                "more than half of the sum of squares was taken away, which costs digits: sum the rows that are left",
                DataWarning,
            )
        return left.without_empty()

    def _alike(self, other: CrossProducts) -> CrossProducts:
        """Return others with the terms in this order and in these coordinates."""
        names = [t.name for t in other.terms]
        if self.p != other.p or sorted(t.name for t in self.terms) != sorted(names):
            raise DataError(
                f"sums of different models cannot be joined: {self.p} and {other.p} fixed effects, terms "
                f"{', '.join(t.name for t in self.terms)} and {', '.join(names)}"
            )
        other = other.ordered([names.index(t.name) for t in self.terms])
        for a, b in zip(self.terms, other.terms):
            if (a.columns, a.structure) != (b.columns, b.structure):
                raise DataError(
                    f"sums of different models cannot be joined: {a.name} is {a.structure}({', '.join(a.columns)}) and "
                    f"{b.structure}({', '.join(b.columns)})"
                )
        return other.rebase(self.basis, self.centres)

    def _merged(self, other: CrossProducts, sign: int) -> CrossProducts:
        theirs = other._pairs()
        out = replace(
            self,
            ZtWXy=frozen(self.ZtWXy + sign * other.ZtWXy),
            XytWXy=frozen(self.XytWXy + sign * other.XytWXy),
            n=self.n + sign * other.n,
            sum_log_weights=self.sum_log_weights + sign * other.sum_log_weights,
        )
        return out._with_pairs({key: pair.merged(theirs[key], sign) for key, pair in self._pairs().items()})

    def _refuse_negative(self) -> None:
        for (i, j), pair in self._pairs().items():
            if pair.counts is not None and np.any(pair.counts < 0):
                worst = int(np.argmin(pair.counts))
                a, b = self.terms[i], self.terms[j]
                levels = a.levels[pair.blocks.rows[worst]], b.levels[pair.blocks.cols[worst]]
                what = f"{a.label} {levels[0]!r}" + ("" if i == j else f" with {b.label} {levels[1]!r}")
                raise DataError(f"rows to be taken away are not there: {what} would have {pair.counts[worst]} rows")

    def without_empty(self) -> CrossProducts:
        """Return the sums without pairs and levels that have no rows."""
        known = self._pairs()
        present = []
        for t, term in enumerate(self.terms):
            own, rows = known[t, t], np.zeros(term.m, dtype=np.int64)
            on = own.blocks.rows == own.blocks.cols
            assert own.counts is not None
            rows[own.blocks.rows[on]] = own.counts[on]
            present.append(rows > 0)
        sums = {}
        for (i, j), pair in known.items():
            assert pair.counts is not None
            sums[i, j] = pair.without(pair.counts == 0).relabelled(*(np.cumsum(present[t]) - 1 for t in (i, j)))
        terms = tuple(t if here.all() else replace(t, levels=t.levels[here]) for t, here in zip(self.terms, present))
        keep = np.concatenate([np.repeat(here, k) for here, k in zip(present, self.gram.k)])
        gram = BlockGram(tuple(t.m for t in terms), self.gram.k, {})
        return replace(self, gram=gram, ZtWXy=frozen(self.ZtWXy[keep]), terms=terms)._with_pairs(sums)


class Accumulator:
    """Sums chunks of rows, each with levels of its own, in the coordinates of the first of them.

    Parameters
    ----------
    counted : bool
        Whether rows can be taken away from the sums later.
    pilot_rows : int
        Rows that the coordinates are found from; so many are kept until they are there.
    """

    def __init__(self, counted: bool = True, pilot_rows: int = PILOT_ROWS) -> None:
        self._counted, self._pilot_rows = counted, pilot_rows
        self._waiting: list[Rows] = []
        self._coordinates: tuple[FixedTransform, dict[str, Centre | None]] | None = None
        self._parts: list[CrossProducts] = []  # each has more rows than the next: every pair is merged log n times

    def update(self, chunk: Rows) -> None:
        """Add the rows of a chunk."""
        self._waiting.append(chunk)
        if self._coordinates is not None or sum(x.n for x in self._waiting) >= self._pilot_rows:
            self._sum_waiting()

    def _sum_waiting(self) -> None:
        if self._coordinates is None:
            self._coordinates = _coordinates(self._waiting)
        basis, centres = self._coordinates
        for chunk in self._waiting:
            own = tuple(centres.get(t.name) for t in chunk.terms)
            part = CrossProducts.from_rows(chunk, basis, own, self._counted)
            while self._parts and self._parts[-1].n <= part.n:
                part = self._parts.pop() + part
            self._parts.append(part)
        self._waiting = []

    def finish(self) -> CrossProducts:
        """Return the sums of all rows: b0 fits all of them, terms go by decreasing number of levels."""
        if self._waiting:
            self._sum_waiting()
        if not self._parts:
            raise DataError("there are no rows")
        total = self._parts[-1]
        for part in self._parts[-2::-1]:
            total = part + total
        order = sorted(range(len(total.terms)), key=lambda t: -total.terms[t].m)
        return total.to_least_squares().ordered(order)


def _coordinates(pilot: Sequence[Rows]) -> tuple[FixedTransform, dict[str, Centre | None]]:
    """Return the transformation of X and y and the centres of the terms, by name, that suit some chunks."""

    def stacked(parts: Sequence[FloatArray | None]) -> FloatArray | None:
        there = [x for x in parts if x is not None]
        return np.concatenate(there) if there else None

    first = pilot[0]
    together = replace(
        first,
        y=np.concatenate([x.y for x in pilot]),
        X=np.concatenate([x.X for x in pilot]),
        weights=stacked([x.weights for x in pilot]),
        offset=stacked([x.offset for x in pilot]),
    )
    centres: dict[str, Centre | None] = {}
    for term in first.terms:
        same = [t for x in pilot for t in x.terms if t.name == term.name and isinstance(t, GroupedTerm)]
        whole = replace(term, Z=np.concatenate([t.Z for t in same])) if isinstance(term, GroupedTerm) else term
        centres[term.name] = find_centre(whole)
    return pilot_basis(together), centres
