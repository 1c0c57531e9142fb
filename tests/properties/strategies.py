"""Random models for property tests: small, with every kind of term the generator knows."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from problems import Case, TermSpec, build, thetas

from sparselmm.covariance import STRUCTURES


def share(factor: float) -> settings:
    """Return the settings of tests that take so many times the examples of the profile (`conftest`)."""
    return settings(max_examples=round(factor * settings().max_examples))


quick, few, many = share(1), share(0.4), share(7.5)

FIXED = st.integers(0, 3)


@st.composite
def cases(draw, *, p=FIXED, grouped=False, structures=tuple(STRUCTURES), z=("normal", "year", "no constant")):
    kinds = ["crossed"] if grouped else ["crossed", "crossed", "membership"]
    first = TermSpec(
        draw(st.integers(8, 14)),
        draw(st.integers(1, 3)),
        draw(st.sampled_from(structures)),
        draw(st.sampled_from(kinds)),
    )
    rest = draw(
        st.lists(
            st.builds(
                TermSpec, st.integers(3, 7), st.integers(1, 2), st.sampled_from(structures), st.sampled_from(kinds)
            ),
            max_size=2,
        )
    )
    return Case(
        "drawn",
        (first, *rest),
        n=draw(st.integers(60, 90)),
        p=draw(p),
        weighted=draw(st.booleans()),
        shifted=draw(st.booleans()),
        z=draw(st.sampled_from(z)),
        seed=draw(st.integers(0, 10**6)),
    )


@st.composite
def problems(draw, **options):
    """A problem, whether REML, and a regular θ."""
    problem = build(draw(cases(**options)))
    return problem, draw(st.booleans()), thetas(problem, 1, seed=draw(st.integers(0, 100)))[0]


def arrays(problem):
    """Return y, X, terms (dicts), weights and offset, all copies and never None."""
    (y, _, inputs), m = problem.arguments, problem.model
    terms = [dict(t) for t in inputs]
    return y.copy(), m.X.copy(), terms, m.weights.copy(), m.offset.copy()


def take(terms, rows):
    """Return the terms for a selection of rows."""
    return [{k: (v[rows] if k in ("groups", "Z", "matrix") else v) for k, v in t.items()} for t in terms]
