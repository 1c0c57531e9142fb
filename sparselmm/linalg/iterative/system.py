"""M = Λ'Z'WZΛ + I for designs too large to factor: a log-determinant with a stated error.

``log|M| = Σlog|D1| + Σlog|C| + log|I - S|`` (see `ReducedSystem`), and as S has no diagonal the last
part is ``tr(log(I - S) + S)``, or ``tr(log(I - S) + S + S²/2)`` less half the sum of squares of S: exact
quadratic forms on deflated directions Q and random ones, Pz with ``P = I - QQ'``, on the rest (as in Hutch++,
Meyer et al. 2021). The probes z are the same for every θ, so that the criterion is a smooth function of θ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from sparselmm._typing import AnyArray, FloatArray
from sparselmm.exceptions import NumericalError, ParameterError
from sparselmm.linalg.audit.dense import audit_cost, exact_logdet
from sparselmm.linalg.audit.report import AuditCost, LevelCovariances, MonteCarlo
from sparselmm.linalg.blocks import BlockGram, Templates, same_templates
from sparselmm.linalg.inverse_blocks import grouped_products
from sparselmm.linalg.iterative.border import Border
from sparselmm.linalg.iterative.control import Effort, IterativeControl
from sparselmm.linalg.iterative.deflation import Deflation, krylov
from sparselmm.linalg.iterative.information import Batch, Information, information
from sparselmm.linalg.iterative.lanczos import lanczos
from sparselmm.linalg.iterative.layout import Layout, divide
from sparselmm.linalg.iterative.levels import level_covariances
from sparselmm.linalg.iterative.operator import ReducedSystem
from sparselmm.linalg.iterative.second import cost_in_probes, sum_of_squares
from sparselmm.linalg.iterative.solve import RELATIVE, Solved, conjugate_gradients
from sparselmm.linalg.iterative.traces import traces_by_differences
from sparselmm.linalg.machine import ITERATIVE_TRACE_RATE

WIDTH = 16
SINGLE_CELLS = 2_000_000  # designs with fewer cells are worked on in double precision throughout
FORM_TOLERANCE = 1e-5  # of the aimed standard error
FORM_ROUNDING = 1e-10  # deviance units, whatever the aim: a form is no better known
SOLVE_TOLERANCE = {4: 1e-5, 8: 1e-6}
FORM_RELATIVE = 1e-7  # residual of solutions of which nothing but quadratic forms is wanted
QUIET = 0.25  # share of the aimed standard error that known directions may leave to the probes
STALLED = 0.8  # share of the probes still wanted with twice the directions, beyond which more do not help
SHRINKAGE = 3.0  # values that the bound of the variance counts for
ENOUGH = 1.2  # more probes than the estimated variance asks for


class IterativeSystem:
    """Eliminates one group of terms exactly and treats the rest by deflation, probes and iterations."""

    name = "iterative"
    factorization = None
    blas_flops = 0.0

    def __init__(self, gram: BlockGram, control: IterativeControl | None = None) -> None:
        self.gram = gram
        self.control = control or IterativeControl()
        if len(divide(gram)[0]) < 2:
            raise ParameterError(
                "the iterative solver needs two crossed grouping factors; this design is factored exactly"
            )
        self.layout = Layout.of(gram)
        self._border = Border(gram, self.layout)
        cells = sum(c.block.nnz for c in self.layout.to_first) + sum(c.block.nnz for *_, c in self.layout.within)
        self._kind: type = np.float32 if cells > SINGLE_CELLS else np.float64
        columns = 8.0 * self.control.probes + 14.0 * self.control.deflation + 100.0
        self.flops = 4.0 * cells * columns
        self.templates: Templates = ()
        self._probes: dict[int, AnyArray] = {}
        self._effort: Effort | None = None
        self._asked: Effort | None = None

    def update(self, gram: BlockGram) -> None:
        """Take other numbers of Z'WZ in the same pattern; an effort found before may serve them too."""
        self.gram.refuse_other_pattern(gram)
        self.gram, self.layout, self.templates = gram, self.layout.updated(gram), ()
        self._border = Border(gram, self.layout)

    @property
    def monte_carlo(self) -> IterativeSystem:
        """Itself: values have a Monte Carlo error."""
        return self

    def adapt(
        self, templates: Templates, effort: Effort | None = None, *, grow: bool = True, more: float = 1.0
    ) -> Effort:
        """Return deflation and probes for these templates; ``grow`` until the standard error is as wanted.

        ``more`` asks for so many times the probes of ``effort``, where the derivatives need them.
        """
        least = 0.0 if effort is None else more * effort.probes
        reduced = ReducedSystem(self.layout, templates)
        k = min(self.control.deflation, reduced.q2)
        noise = (QUIET * self.control.standard_error) ** 2
        first = self._try(templates, reduced, k, 1, noise)
        if not grow:
            return first
        if self._wanted_probes() > self.control.probes + cost_in_probes(self.layout):
            first = self._try(templates, reduced, k, 2, noise)
        best, wanted = self._deflated_enough(templates, reduced, first, k, least)
        probes = best.probes
        while probes < self.control.max_probes and (wanted > probes or self._effort is not best):
            probes = min(-(-int(wanted) // WIDTH) * WIDTH, self.control.max_probes)
            best = replace(best, probes=probes)
            self.refactor(templates, best)
            wanted = self._wanted_probes()
        grown = replace(best, grown=True)
        if self._effort is best:
            self._effort = self._asked = grown
        else:  # the last trial was refused, and no more probes may be drawn
            self.refactor(templates, grown)
        return grown

    def _try(self, templates: Templates, reduced: ReducedSystem, k: int, order: int, noise: float) -> Effort:
        """Evaluate with up to k directions; ``noise`` is the variance of the mean that known ones may leave."""
        directions = self._directions(reduced, k, order, self.control.probes * noise)
        effort = Effort(directions, self.control.probes, order)
        self.refactor(templates, effort)
        return effort

    def _deflated_enough(
        self, templates: Templates, reduced: ReducedSystem, first: Effort, k: int, least: float
    ) -> tuple[Effort, float]:
        """Return the effort with the directions that make it cheapest, and the probes it wants."""
        best, wanted = first, max(self._wanted_probes(), least)
        k = k if best.directions.shape[1] < k else 2 * k
        while wanted > self.control.probes and k <= min(self.control.max_deflation, reduced.q2 // 2):
            tried = self._try(templates, reduced, k, best.order, 0.0)
            fewer = max(self._wanted_probes(), least)
            dearer = self._cost(k, fewer) > self._cost(best.directions.shape[1], wanted)
            if dearer and (wanted <= self.control.max_probes or fewer > STALLED * wanted):
                break
            k *= 2
            best, wanted = tried, fewer
        return best, wanted

    def _wanted_probes(self) -> float:
        """Return how many probes would bring the standard error to the aim."""
        share = (self.standard_error / self.control.standard_error) ** 2
        return ENOUGH * share * len(self.samples) if share > 1.0 else float(self.control.probes)

    def _cost(self, deflation: int, probes: float) -> float:
        """Return the cost of an evaluation in products with a column of single precision."""
        double = 1.0 if self._kind is np.float64 else 2.0
        return 6.0 * double * deflation + 8.0 * probes

    def _directions(self, reduced: ReducedSystem, k: int, order: int, noise: float) -> FloatArray:
        rng = np.random.default_rng((self.control.seed, 1))
        start = rng.standard_normal((reduced.q2, max(k // 2, 1)))
        # where levels meet often, S has an eigenvalue close to 1 with nearly this vector
        start[:, 0] = np.concatenate(
            [np.sqrt(np.einsum("mkk->mk", L @ L.transpose(0, 2, 1)).ravel()) for L in reduced.L2]
        )
        return krylov(reduced.apply, start, k, order, noise, self._kind)

    def _probe_block(self, i: int) -> AnyArray:
        """Return the i-th block of Rademacher vectors, (q2, WIDTH), of -1 and 1."""
        if i not in self._probes:
            rng = np.random.default_rng((self.control.seed, 2, i))
            q2 = sum(g.size for g in self.layout.rest)
            self._probes[i] = rng.integers(0, 2, size=(q2, WIDTH), dtype=np.int8) * np.int8(2) - np.int8(1)
        return self._probes[i]

    def holds(self, templates: Templates, effort: Effort | None = None) -> bool:
        """Return whether the last evaluation was at these templates with this effort."""
        return effort is self._asked and same_templates(self.templates, templates)

    def refactor(self, templates: Templates, effort: Effort | None = None) -> None:
        """Find log|M| and what the derivatives need, for the k×k templates of the terms.

        Without an effort one is chosen for the templates.
        """
        if effort is None:
            self.adapt(templates)
            self._asked = None
            return
        self.templates = ()
        reduced = ReducedSystem(self.layout, templates)
        self._reduced, self._order = reduced, effort.order
        self._memo: tuple[FloatArray, FloatArray] | None = None
        self._found: Information | None = None
        self._solve_error = 0.0
        batches = self._deflated(effort.directions)
        self._deflation = Deflation(effort.directions, np.concatenate([b.tridiagonals.alpha[0] for b in batches]))
        self._batches = batches + self._drawn(-(-effort.probes // WIDTH))
        self.samples = np.concatenate([b.forms for b in self._batches if b.random])
        self._border.factor(templates, self._big_solve)
        if not (np.isfinite(reduced.logdet) and np.all(np.isfinite(self.samples))):
            raise NumericalError("the log-determinant of the penalized system is not finite")
        self._logdet: float | None = None
        self.templates, self._effort, self._asked = templates, effort, effort

    def _deflated(self, Q: FloatArray) -> list[Batch]:
        return [
            self._batch(np.ascontiguousarray(Q[:, a : a + 2 * WIDTH]), False) for a in range(0, Q.shape[1], 2 * WIDTH)
        ]

    def _drawn(self, blocks: int) -> list[Batch]:
        try:
            return [self._random(i, self._kind) for i in range(blocks)]
        except NumericalError:
            if self._kind is np.float64:
                raise
        # single precision did not see that the eigenvalues of S are below 1: what it made of the others is no better
        return [self._random(i, np.float64) for i in range(blocks)]

    def _random(self, i: int, kind: type) -> Batch:
        return self._batch(self._deflation.project(self._probe_block(i).astype(kind)), True)

    def _batch(self, B: AnyArray, random: bool) -> Batch:
        U, Y = self._reduced.raw(B)
        tolerance = max(FORM_TOLERANCE * self.control.standard_error, FORM_ROUNDING), SOLVE_TOLERANCE[B.itemsize]
        found = lanczos(self._reduced.apply, B, self._reduced.finish(Y.copy()), self._order, *tolerance)
        return Batch(B, found.X, U, Y, found.forms, found.tridiagonals, random)

    @property
    def exhausted(self) -> bool:
        """Whether the effort in use was grown as far as it may be."""
        effort = self._effort
        return effort is not None and effort.grown and effort.probes >= self.control.max_probes

    def audit_cost(self) -> AuditCost:
        """Return what `exact_logdet` costs."""
        return audit_cost(self.layout)

    def exact_logdet(self, listener: Callable[[float], None] | None = None) -> float:
        """Return log|M| by a dense factorisation; the listener is told the share of it that is done."""
        return exact_logdet(self.gram, self._reduced, listener) + self._border.logdet

    @property
    def aim(self) -> float:
        """The standard error of log|M| that is wanted."""
        return self.control.standard_error

    @property
    def standard_error(self) -> float:
        """Monte Carlo standard error of log|M|, from the values of the probes.

        The variance of a few values is itself uncertain, and too small now and then. It is shrunk towards a bound
        that the same Lanczos matrices give with a tenth of that uncertainty, by the weight of a few more values.
        """
        m = len(self.samples)
        squares = np.concatenate([b.tridiagonals.square_forms() for b in self._batches if b.random])
        variance = float(self.samples.var(ddof=1))
        bound = 2.0 * float(squares.mean())
        return float(np.sqrt(((m - 1) * variance + SHRINKAGE * bound) / (m - 1 + SHRINKAGE) / m))

    def logdet(self) -> float:
        """Return log|M|, within `standard_error`."""
        if self._logdet is None:
            known = sum(float(b.forms.sum()) for b in self._batches if not b.random)
            if self._order == 2:
                known -= sum_of_squares(self._reduced) / 2.0
            self._logdet = self._reduced.logdet + known + float(self.samples.mean()) + self._border.logdet
        return self._logdet

    def _reduced_solve(self, C: FloatArray, relative: float = RELATIVE) -> tuple[FloatArray, Solved, FloatArray]:
        """Return L1⁻¹C1, the solved system of the rest and its right-hand side, for columns C of Z."""
        layout = self.layout
        first = C[layout.first.columns.ravel()]
        rest = np.concatenate([C[g.columns.ravel()] for g in layout.rest])
        H1, right = self._reduced.reduce(first, rest)
        return H1, conjugate_gradients(self._reduced.apply, self._deflation.precondition, right, relative), right

    def _big_solve(self, C: FloatArray) -> FloatArray:
        """Return the solution without the border, (q, r), zero in its rows."""
        H1, solved, _ = self._reduced_solve(C)
        return self._expanded(H1, solved.X)

    def _expanded(self, H1: FloatArray, X: FloatArray) -> FloatArray:
        layout = self.layout
        X1, X2 = self._reduced.expand(H1, X)
        out = np.zeros((self.gram.q, X.shape[1]))
        out[layout.first.columns.ravel()] = X1
        for group, part in zip(layout.rest, self._reduced.parts(X2)):
            out[group.columns.ravel()] = part
        return out

    def quadratic(self, C: FloatArray, width: int | None = None) -> FloatArray:
        """Return C_g'M⁻¹C_g for each group of ``width`` columns, (groups, width, width).

        The error is of second order in the residuals of the solutions. Those of one group of all columns are kept:
        `solve` is asked for them next.
        """
        H1, solved, right = self._reduced_solve(C, RELATIVE if width is None else FORM_RELATIVE)
        if width is None:
            self._solve_error = max(self._solve_error, solved.relative**2 / self._reduced.smallest)
            self._memo = (C, self._expanded(H1, solved.X))
        cross = grouped_products(solved.X, solved.R, width)
        out = grouped_products(H1, H1, width) + grouped_products(right, solved.X, width) + cross.transpose(0, 2, 1)
        out = (out + out.transpose(0, 2, 1)) / 2.0
        return out + self._border.quadratic(C, width)

    def solve(self, C: FloatArray) -> FloatArray:
        """Return M⁻¹C, (q, r)."""
        big = self._memo[1] if self._memo is not None and self._memo[0] is C else self._big_solve(C)
        return self._border.complete(C, big)

    def information_sums(self) -> tuple[FloatArray, ...]:
        """Return Σ_l of the diagonal blocks of Z'V⁻¹Z, one (k, k) array per term."""
        return self._information().sums

    def _information(self) -> Information:
        if self._found is None:
            self._found = information(self.gram, self._reduced, self._batches, self._border)
        return self._found

    def information_blocks(self) -> tuple[FloatArray, ...]:
        """Return the diagonal blocks of Z'V⁻¹Z, one (m, k, k) array per term."""
        return information(self.gram, self._reduced, self._batches, self._border, by_level=True).blocks

    def inverse_diagonal(self) -> tuple[FloatArray, ...]:
        """Return the diagonal blocks of M⁻¹ = I - Λ'Z'V⁻¹ZΛ, one (m, k, k) array per term, estimated."""
        return tuple(np.eye(len(T)) - T.T @ blocks @ T for T, blocks in zip(self.templates, self.information_blocks()))

    def level_covariances(self, terms: tuple[int, ...], factors: Templates) -> LevelCovariances | None:
        """Return R [M⁻¹]_ll R' of all levels of terms on the same levels, estimated; None for those of the border."""
        return level_covariances(self.gram, self._reduced, self._batches, self._border, terms, factors)

    def trace_products(self, directions: Sequence[tuple[int, FloatArray]]) -> FloatArray:
        """Return tr(Z'V⁻¹Z B_i Z'V⁻¹Z B_j) by differences of `information_sums` along Ω + hB, same probes."""
        return traces_by_differences(self, self._effort, directions)

    def trace_seconds(self) -> float:
        """Return roughly the time that `trace_products` takes."""
        return 6.0 * self.flops * sum(k * (k + 1) // 2 for k in self.gram.k) / ITERATIVE_TRACE_RATE

    def information_samples(self) -> tuple[FloatArray, ...]:
        """Return what each probe says of the uncertain part of `information_sums`, (probes, k, k) per term."""
        return self._information().samples

    def report(self) -> MonteCarlo:
        """Return what is known of the error of log|M|."""
        random = [b for b in self._batches if b.random]
        gaps = [np.abs(b.forms - b.tridiagonals.lower_forms(self._reduced.smallest)).mean() for b in random]
        exact = sum(
            float(np.abs(b.forms - b.tridiagonals.lower_forms(self._reduced.smallest)).sum())
            for b in self._batches
            if not b.random
        )
        precision = 0.0
        if random[0].B.dtype == np.float32:
            again = self._random(0, np.float64)
            precision = float(again.forms.mean() - random[0].forms.mean())
        return MonteCarlo(
            standard_error=self.standard_error,
            target=self.control.standard_error,
            probes=len(self.samples),
            deflation=self._deflation.Q.shape[1],
            quadrature=float(np.mean(gaps)) + exact,
            solve=self._solve_error,
            precision=precision,
            theta=np.zeros(0),
            values=self.logdet() - self.samples.mean() + self.samples,
        )
