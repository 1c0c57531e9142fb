"""What a solver would cost, from symbolic structure alone, and the choice between them."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
import scipy.sparse as sp

from sparselmm import LinearMixedModel, linalg, load_dataset
from sparselmm.exceptions import PlanError
from sparselmm.linalg import SOLVERS, SYSTEMS, machine, planner
from sparselmm.linalg.planner import MEMORY_SHARE, cholmod_cost, make_plan, quick_choice, refuse_if_too_large


def gram_of(terms):
    """Return Z'WZ of terms (codes, k)."""
    n = len(terms[0][0])
    rng = np.random.default_rng(0)
    columns = [np.column_stack([np.ones(n), rng.standard_normal((n, k - 1))]) for _, k in terms]
    inputs = [(codes, Z, f"g{i}") for i, ((codes, _), Z) in enumerate(zip(terms, columns))]
    model = LinearMixedModel.from_arrays(rng.standard_normal(n), np.ones((n, 1)), inputs)
    return model.problem.engine.crossproducts.gram


def crossed(m1, m2, n, k1=1, k2=1, seed=0):
    rng = np.random.default_rng(seed)
    codes = [np.concatenate([np.arange(m), rng.integers(0, m, n - m)]) for m in (m1, m2)]
    return gram_of([(rng.permutation(codes[0]), k1), (rng.permutation(codes[1]), k2)])


def mobility(workers, firms, movers, seed=0):
    """Workers at a home firm, a share of them for one of five rows at a neighbouring one: nearly a chain of firms."""
    rng = np.random.default_rng(seed)
    home = rng.integers(0, firms, workers)
    firm = np.repeat(home, 5)
    moved = np.flatnonzero(rng.random(workers) < movers)
    firm[moved * 5] = (home[moved] + 1) % firms
    return gram_of([(np.repeat(np.arange(workers), 5), 1), (np.unique(firm, return_inverse=True)[1], 1)])


def eliminable(gram):
    return linalg.eliminable_terms(gram)


@pytest.mark.parametrize("density", [0.02, 0.1, 0.4, 1.0])
@pytest.mark.parametrize("q", [1, 2, 17, 40])
@pytest.mark.parametrize("seed", range(3))
def test_column_counts_are_those_of_a_dense_factor(q, density, seed):
    """Numbers without accidental cancellation: the nonzeros of the dense factor are the symbolic ones."""
    rng = np.random.default_rng([q, seed])
    A = np.tril(np.where(rng.random((q, q)) < density, rng.uniform(0.5, 1.0, (q, q)), 0.0), -1)
    A = A + A.T + np.diag(np.full(q, 2.0 * q))
    lower = sp.csr_array(np.tril(A))
    found = planner.column_counts(lower)
    # outside the pattern zeros stay exact; fill is a product of entries of order 1/q along a path, never this small
    L = np.linalg.cholesky(A)
    expected = (np.abs(L) > 1e-280).sum(axis=0)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("k1", "k2"), [(1, 1), (2, 1), (1, 3), (2, 2)])
def test_cholmod_cost_counts_the_factor_it_will_get(k1, k2):
    gram = crossed(60, 25, 150, k1, k2)
    cost = cholmod_cost(gram)
    system = SYSTEMS["cholmod"](gram)
    system.refactor(tuple(np.eye(k) + 0.1 * np.tril(np.ones((k, k)), -1) for k in gram.k))
    L, _ = system.factor()
    # the same order of elimination, ties resolved alike or not: a few per cent of fill
    assert cost.factor_nonzeros == pytest.approx(L.nnz, rel=0.1)
    counts = np.diff(sp.csc_array(np.tril(L.toarray())).indptr).astype(float)
    assert cost.flops == pytest.approx((counts**2).sum(), rel=0.2)


@pytest.mark.parametrize(("k1", "k2"), [(1, 1), (2, 1), (1, 3), (2, 2)])
def test_predicted_memory_of_the_elimination(k1, k2):
    """Within a factor of two of the arrays that a fit holds at once: S, A22, S⁻¹ and one more; A12; blocks."""
    gram = crossed(900, 150, 4000, k1, k2)
    first = eliminable(gram)
    system = SYSTEMS["schur"](gram)
    system.refactor(tuple(np.eye(k) for k in gram.k))
    inverse = system.schur_inverse()
    held, seen = 2 * inverse.nbytes, set()

    def add(value):
        nonlocal held
        if isinstance(value, np.ndarray):
            base = value if value.base is None or not isinstance(value.base, np.ndarray) else value.base
            if id(base) not in seen:
                seen.add(id(base))
                held += base.nbytes
        elif isinstance(value, sp.csr_array):
            for part in (value.data, value.indices, value.indptr):
                add(part)
        elif isinstance(value, (tuple, list)):
            for part in value:
                add(part)
        elif type(value).__name__ == "Sandwich":
            for part in vars(value).values():
                add(part)

    for value in vars(system).values():
        add(value)
    assert 0.5 < make_plan(gram, first)["schur"].bytes / held < 2.0


def test_insteval_is_eliminated():
    data = load_dataset("insteval")
    codes = [np.unique(data[c], return_inverse=True)[1] for c in ("s", "d", "dept")]
    gram = gram_of([(c, 1) for c in codes])
    plan = make_plan(gram, eliminable(gram))
    assert plan.choice == "schur"
    assert (gram.m, plan.m) == ((2972, 1128, 14),) * 2
    assert plan["schur"].seconds < plan["cholmod"].seconds
    assert plan.fits_in_memory


def test_sparse_wins_on_a_mobility_graph():
    """Workers of one or two neighbouring firms: hardly any fill, while the dense rest has firms² entries."""
    gram = mobility(6000, 2500, 0.3)
    first = eliminable(gram)
    plan = make_plan(gram, first)
    assert plan.choice == "cholmod"
    assert re.fullmatch(r"predicted \d+\.\d times as fast as schur", plan.reason)
    assert quick_choice(gram, first) is None, "no answer without looking at the fill"
    ratio = plan["schur"].iteration_seconds / plan["cholmod"].iteration_seconds
    assert f"{ratio:.1f}" in plan.reason
    assert ratio > 3


def test_memory_decides_before_time():
    gram = crossed(3000, 1500, 20000)
    first = eliminable(gram)
    rich = make_plan(gram, first, available=lambda: 1e15)
    need = {c.name: c.bytes for c in rich.costs if c.name in SYSTEMS}
    small, large = sorted(need, key=need.get)
    poor = make_plan(gram, first, available=lambda: (need[small] * 1.01) / MEMORY_SHARE)
    assert need[large] > 1.05 * need[small]
    assert poor.choice == small
    assert poor.reason == "the only exact one that fits in memory"
    refuse_if_too_large(poor)
    unknown = make_plan(gram, first, available=lambda: None)
    assert unknown.fits_in_memory
    assert unknown.choice == rich.choice


def test_what_fits_nowhere_is_refused_with_the_table():
    """The table comes from the pattern alone: no array of the size of the factor is made."""
    gram = crossed(3000, 1500, 20000)
    plan = make_plan(gram, eliminable(gram), available=lambda: 1e6)
    assert not plan.fits_in_memory
    with pytest.raises(PlanError) as caught:
        refuse_if_too_large(plan)
    text = str(caught.value)
    assert str(plan) in text
    assert "0.001 GB are available" in text
    assert isinstance(caught.value, MemoryError)


def test_a_huge_rest_is_never_made_dense(monkeypatch):
    """q2 = 30,000 needs 29 GB as dense arrays; with 2 GB the fit is refused or takes the sparse solver."""
    monkeypatch.setattr(planner, "available_memory", lambda: 2e9)
    gram = mobility(40_000, 30_000, 0.3)
    assert quick_choice(gram, eliminable(gram)) is None
    assert linalg.choose_system(gram) == "cholmod"
    monkeypatch.setattr(planner, "available_memory", lambda: 1e6)
    with pytest.raises(PlanError, match="schur"):
        linalg.choose_system(gram)


def test_refusal_reaches_the_user_before_the_fit(monkeypatch):
    monkeypatch.setattr(planner, "available_memory", lambda: 1e6)
    rng = np.random.default_rng(0)
    n, codes = 20_000, [rng.integers(0, m, 20_000) for m in (3000, 1500)]
    model = LinearMixedModel.from_arrays(rng.standard_normal(n), np.ones((n, 1)), [(c, None) for c in codes])
    with pytest.raises(PlanError, match="GB are available"):
        model.fit()
    assert not model.plan().fits_in_memory  # the plan can still be looked at


@pytest.mark.parametrize(
    "gram",
    [
        crossed(40, 20, 200),
        crossed(2000, 900, 5000),
        crossed(3000, 1200, 90_000),
        crossed(300, 200, 2000, 2, 3),
        mobility(3000, 1200, 0.3),
        gram_of([(np.arange(60) % 7, 2)]),
    ],
    ids=["tiny", "small", "dense", "slopes", "mobility", "one term"],
)
def test_the_quick_answer_is_the_plans(gram):
    """Where a choice is made without the table, the table makes the same."""
    first = eliminable(gram)
    plan = make_plan(gram, first, available=lambda: 1e15)
    quick = quick_choice(gram, first)
    assert linalg.choose_system(gram) == plan.choice
    assert quick in (None, plan.choice)
    if quick is None:
        assert plan.chosen.iteration_seconds == min(c.iteration_seconds for c in plan.costs if c.name in SYSTEMS)


def test_plan_of_a_model_prints_every_number():
    rng = np.random.default_rng(0)
    n, codes = 600, [rng.integers(0, m, 600) for m in (60, 25)]
    Z = np.column_stack([np.ones(n), rng.standard_normal(n)])
    model = LinearMixedModel.from_arrays(rng.standard_normal(n), np.ones((n, 1)), [(codes[0], Z), (codes[1], None)])
    plan = model.plan()
    text = str(plan)
    assert repr(plan) == text
    assert "60 levels × 2, 25 levels × 1 (q = 145)" in text
    rows = {line.split()[0]: line for line in text.splitlines() if line.split()[0] in SOLVERS}
    assert set(rows) == {c.name for c in plan.costs} == set(SOLVERS)
    for cost in plan.costs:
        numbers = [float(x) for x in re.findall(r"[-+]?\d+\.?\d*(?:e[-+]?\d+)?", rows[cost.name])]
        shown = [cost.bytes / 1e9, cost.factor_nonzeros, cost.flops, cost.seconds, cost.gradient_seconds]
        np.testing.assert_allclose(numbers, shown, rtol=0.051)  # two digits are printed
    assert f"choice: {plan.choice} ({plan.reason})" in text
    if plan.memory is not None:
        assert f"{plan.memory / 1e9:.3g} GB of memory available" in text
    assert f"about {plan.fit_seconds:.2g} s" in text
    assert plan[plan.choice] is plan.chosen
    assert "optimizer: bobyqa+newton (few parameters, cheap evaluations)" in text
    with pytest.raises(KeyError):
        plan["umfpack"]


def test_memory_available_is_that_of_the_container(monkeypatch):
    files = {"/proc/meminfo": "MemTotal: 100 kB\nMemAvailable:    5000 kB\n"}

    def fake_open(path, **_options):
        if path not in files:
            raise FileNotFoundError(path)
        return io.StringIO(files[path])

    monkeypatch.setattr(machine, "open", fake_open, raising=False)
    monkeypatch.setattr(machine.sys, "platform", "linux")
    assert machine.available_memory() == 5000 * 1024.0
    files |= {"/sys/fs/cgroup/memory.max": "3000000\n", "/sys/fs/cgroup/memory.current": "1000000\n"}
    assert machine.available_memory() == 2e6
    files["/sys/fs/cgroup/memory.max"] = "max\n"
    assert machine.available_memory() == 5000 * 1024.0
    files["/proc/meminfo"] = "MemAvailable: lots kB\n"
    assert machine.available_memory() is None


def test_what_cannot_be_factored_is_iterated():
    """Memory for neither factor, but for the iterations: chosen, and the plan says why."""
    gram = crossed(12_000, 9_000, 60_000)
    first = eliminable(gram)
    rich = make_plan(gram, first, available=lambda: 1e15)
    exact = min(c.bytes for c in rich.costs if c.name in SYSTEMS)
    assert rich["iterative"].bytes < 0.5 * exact
    poor = make_plan(gram, first, available=lambda: 0.6 * exact)
    assert (poor.choice, poor.reason) == ("iterative", "an exact factor does not fit in memory")
    refuse_if_too_large(poor)


def test_connected_designs_are_not_analysed(monkeypatch):
    """The symbolic analysis of a design that fills up anyway would cost more than the fit."""
    gram = crossed(300, 200, 20_000)
    monkeypatch.setattr(planner, "MANY_CELLS", 1000)
    monkeypatch.setattr(planner, "cholmod_cost", lambda _: pytest.fail("analysed"))
    plan = make_plan(gram, eliminable(gram))
    assert [c.name for c in plan.costs] == ["schur", "iterative"]
    assert plan.choice == "schur"


def test_a_few_levels_tell_that_a_factor_fills_up(monkeypatch):
    """The analysis of the whole would take seconds here and changes nothing."""
    gram = crossed(20_000, 8_000, 200_000)
    first, asked = eliminable(gram), []

    def cost(gram, keep=None):
        asked.append(gram.q if keep is None else int(keep.sum()))
        return cholmod_cost(gram, keep)

    monkeypatch.setattr(planner, "cholmod_cost", cost)
    plan = make_plan(gram, first, available=lambda: 1e15)
    assert "cholmod" not in {c.name for c in plan.costs}
    assert asked and max(asked) < 0.5 * gram.q
    poor = make_plan(gram, first, available=lambda: 1e9)
    assert (poor.choice, poor.reason) == ("iterative", planner.NEITHER)
    sparse = mobility(6000, 2500, 0.3)
    asked.clear()
    make_plan(sparse, eliminable(sparse))
    assert asked[-1] == sparse.q


def test_cost_of_a_part_is_that_of_the_part():
    gram = crossed(300, 200, 2000, 2, 3)
    keep = np.ones(gram.q, dtype=bool)
    assert cholmod_cost(gram, keep) == cholmod_cost(gram)
    keep[: 2 * 150] = False  # half the levels of the first term
    dense = np.zeros((gram.q, gram.q))
    for pair in gram.pairs:
        rows, cols = gram.element_indices(*pair)
        dense[rows, cols] = dense[cols, rows] = 1.0
    part = dense[np.ix_(keep, keep)]
    with pytest.MonkeyPatch.context() as patch:  # without a fill-reducing order both are in the same one
        patch.setattr(planner, "_fill_reducing", lambda pattern: np.arange(pattern.shape[0]))
        cost = cholmod_cost(gram, keep)
    lower = sp.csr_array(np.tril(part))
    counts = planner.column_counts(lower)
    assert cost.factor_nonzeros == counts.sum()


def test_patience_decides_between_exact_and_approximate(monkeypatch):
    gram = crossed(3000, 1500, 20000)
    first = eliminable(gram)
    assert make_plan(gram, first, available=lambda: 1e15).choice in SYSTEMS
    monkeypatch.setattr(planner, "PATIENCE", 0.0)
    monkeypatch.setattr(planner, "ITERATIVE_RATE", 1e15)
    monkeypatch.setattr(planner, "VECTOR_RATE", 1e15)
    monkeypatch.setattr(planner, "OVERHEAD", 0.0)
    plan = make_plan(gram, first, available=lambda: 1e15)
    assert plan.choice == "iterative"
    assert "with a stated error" in plan.reason


@pytest.mark.parametrize(
    ("formula", "data"),
    [
        ("Reaction ~ Days + (Days | Subject)", "sleepstudy"),
        ("y ~ service + (1 | s) + (1 | d) + (1 | dept)", "insteval"),
        ("strength ~ 1 + (1 | batch/cask)", "pastes"),
    ],
)
def test_the_plan_names_the_optimizer_that_runs(formula, data):
    model = LinearMixedModel.from_formula(formula, load_dataset(data))
    report = model.fit().optimizer_report
    assert model.plan().optimizer.split(" (")[0] == report.name
