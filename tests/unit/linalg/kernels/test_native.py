"""Every compiled loop against numpy, as installed and compiled for each kind of processor that this one can run."""

from __future__ import annotations

import importlib.util
import shlex
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from sparselmm.linalg.kernels import _native

REPOSITORY = Path(__file__).resolve().parents[4]
SOURCES = REPOSITORY / "sparselmm" / "linalg" / "kernels" / "native"
NEEDS = {"x86-64": set(), "x86-64-v3": {"avx2", "fma", "bmi2"}, "x86-64-v4": {"avx512f", "avx512vl", "avx512dq"}}


def processor_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith("flags") for flag in line.split(":", 1)[1].split()}


@pytest.fixture(scope="module", params=["installed", *NEEDS])
def native(request, tmp_path_factory):
    """Return the loops as installed, or as compiled for one kind of processor alone."""
    if request.param == "installed":
        return _native
    if not processor_flags() or not NEEDS[request.param] <= processor_flags():
        pytest.skip(f"this processor cannot run {request.param}")
    target = tmp_path_factory.mktemp(request.param) / "_native.abi3.so"
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")[0]
    flags = [
        "-std=gnu11",
        "-O3",
        "-fno-trapping-math",
        "-fno-math-errno",
        "-Wno-psabi",
        "-fPIC",
        "-shared",
        "-DONE_LEVEL",
    ]
    flags += [f"-march={request.param}", f"-I{sysconfig.get_paths()['include']}"]
    command = [compiler, *flags, *map(str, sorted(SOURCES.glob("*.c"))), "-o", str(target)]
    subprocess.run(command, check=True, capture_output=True)
    spec = importlib.util.spec_from_file_location("_native", target)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sparse(m, q, density, seed, index=np.int32):
    A = sp.random_array((m, q), density=density, rng=np.random.default_rng(seed), format="csr")
    A.sort_indices()
    return A, A.indptr.astype(np.int64), A.indices.astype(index), A.data


def panels(indptr, indices, q, width):
    """Return the lists of rows that touch each panel, written as plainly as possible."""
    count = -(-q // width)
    lists = [[] for _ in range(count)]
    for r in range(len(indptr) - 1):
        for e in range(indptr[r], indptr[r + 1]):
            p = indices[e] // width
            if e == indptr[r] or indices[e - 1] // width != p:
                lists[p].append((r, e))
    pointer = np.cumsum([0, *map(len, lists)])
    flat = np.array([x for part in lists for x in part], dtype=np.int64).reshape(-1, 2)
    return pointer, np.ascontiguousarray(flat[:, 0]), np.ascontiguousarray(flat[:, 1])


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("width", [4, 7, 100])
def test_grams(native, index, width):
    A, ptr, idx, data = sparse(60, 31, 0.3, 1, index)
    rng = np.random.default_rng(2)
    d, e = rng.uniform(size=60), rng.normal(size=60)
    lists = panels(ptr, idx, 31, width)
    out, other = np.full((31, 31), 9.0), np.full((31, 31), 9.0)
    native.two_weighted_grams_lower(ptr, idx, data, *lists, width, d, e, out, other)
    dense = A.toarray()
    np.testing.assert_allclose(np.tril(out), np.tril(dense.T @ (d[:, None] * dense)), atol=1e-13)
    np.testing.assert_allclose(np.tril(other), np.tril(dense.T @ (e[:, None] * dense)), atol=1e-13)
    assert (out[np.triu_indices(31, 1)] == 9.0).all()
    right = rng.normal(size=len(data))
    B = sp.csr_array((right, idx, ptr), shape=A.shape).toarray()
    native.weighted_gram_lower(ptr.astype(np.int32), idx, data, right, *lists, width, d, out)
    np.testing.assert_allclose(np.tril(out), np.tril(dense.T @ (d[:, None] * B)), atol=1e-13)


@pytest.mark.parametrize("K", [1, 2, 3])
@pytest.mark.parametrize("order", ["C", "F"])
def test_forms_of_levels(native, K, order):
    rng = np.random.default_rng(K)
    patterns = [np.sort(rng.choice(20, size=n, replace=False)) for n in (3, 0, 7, 1)]
    ptr = np.concatenate([[0], np.cumsum(np.repeat([len(p) for p in patterns], K))])
    idx = np.concatenate([np.tile(p, K) for p in patterns]).astype(np.int32)
    data = rng.normal(size=len(idx))
    inner = rng.normal(size=(20, 20))
    inner = np.asarray(np.tril(inner) + np.tril(inner, -1).T, order=order)
    half = inner.copy(order=order)
    half[np.triu_indices(20, 1)] = np.nan  # only the lower part is read
    out = np.empty((4, K, K))
    native.level_quadratic_forms(ptr, idx, data, K, half, out)
    A = sp.csr_array((data, idx, ptr), shape=(4 * K, 20)).toarray().reshape(4, K, 20)
    np.testing.assert_allclose(out, A @ inner @ A.transpose(0, 2, 1), atol=1e-12)


@pytest.mark.parametrize("k", [1, 3])
def test_products_in_the_pattern(native, k):
    _, ptr, idx, _ = sparse(30, 25, 0.2, 3)
    rng = np.random.default_rng(4)
    values, inner = rng.normal(size=(len(idx), k)), rng.normal(size=(25, 25))
    out = np.zeros_like(values)
    native.pattern_products(ptr, idx, values, inner, out)
    for level in range(30):
        here = slice(ptr[level], ptr[level + 1])
        np.testing.assert_allclose(out[here], inner[np.ix_(idx[here], idx[here])] @ values[here], atol=1e-12)


def test_products_to_subtract(native):
    B, ptr, idx, data = sparse(40, 18, 0.3, 5)
    by_column = sp.csr_array((np.arange(B.nnz), idx, ptr), shape=B.shape).tocsc()
    rows = by_column.indices.astype(np.int32)
    out = np.zeros((6, 18 - 4))
    native.subtract_products(ptr, idx, data, by_column.indptr, rows, by_column.data.astype(np.int64), 7, 4, out)
    product = (B.T @ B).toarray()
    for c in range(6):
        expected = np.where(np.arange(4, 18) >= 7 + c, -product[4:, 7 + c], 0.0)
        np.testing.assert_allclose(out[c], expected, atol=1e-13)


def test_squares(native):
    W, *by_row = sparse(50, 37, 0.2, 6)
    R, *rest = sparse(37, 37, 0.1, 7)
    back = W.T.tocsr()
    by_column = (back.indptr.astype(np.int64), back.indices.astype(np.int32), back.data)
    found = native.squares_of_rows(*by_column, *by_row, *rest, 5, 30)
    expected = ((W.T @ W - R).toarray()[5:30] ** 2).sum()
    assert found == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("cut", [0, 9, 14])
def test_inverse_in_the_pattern(native, cut):
    q = 14
    A = sp.random_array((q, q), density=0.2, rng=np.random.default_rng(8)).toarray()
    A = A + A.T + 5.0 * np.eye(q)
    A[cut:, cut:] += 0.1
    L = np.linalg.cholesky(A)
    pattern = np.abs(L) > 0
    for j in range(q):  # close it under elimination
        below = np.flatnonzero(pattern[j + 1 :, j]) + j + 1
        pattern[np.ix_(below, below)] |= np.tril(np.ones((len(below), len(below)), dtype=bool))
    rows, cols = np.nonzero(pattern.T)[::-1]
    ptr = np.concatenate([[0], np.cumsum(pattern.sum(axis=0))])
    inverse = np.linalg.inv(A)
    out = np.zeros(ptr[cut])
    native.takahashi(ptr, rows.astype(np.int64), L[rows, cols], cut, np.asfortranarray(inverse[cut:, cut:]), out)
    np.testing.assert_allclose(out, inverse[rows, cols][: ptr[cut]], atol=1e-13)


@pytest.mark.parametrize("code", [np.int32, np.int64])
@pytest.mark.parametrize("place", [np.int32, np.int64])
def test_sorting_by_pairs(native, code, place):
    rng = np.random.default_rng(9)
    n, ma, mb = 300, 12, 9
    a, b = rng.integers(0, ma, n).astype(code), rng.integers(0, mb, n).astype(code)
    a_starts, b_starts = np.empty(ma + 1, dtype=np.int64), np.empty(mb + 1, dtype=np.int64)
    native.level_starts(a, a_starts)
    native.level_starts(b, b_starts)
    np.testing.assert_array_equal(a_starts, np.concatenate([[0], np.cumsum(np.bincount(a, minlength=ma))]))
    order, scratch = np.empty(n, dtype=place), np.empty(n, dtype=place)
    native.sort_by_pair(a, b, a_starts, b_starts, scratch, order)
    np.testing.assert_array_equal(order, np.lexsort([np.arange(n), b, a]))
    counts = np.empty(ma, dtype=np.int64)
    native.count_cells(order, b, a_starts, counts)
    np.testing.assert_array_equal(counts, [len(np.unique(b[a == level])) for level in range(ma)])
    Za, Zb, w = rng.normal(size=(n, 2)), rng.normal(size=(n, 3)), rng.uniform(size=n)
    for steps in ((1, 1, 1), (0, 1, 0), (1, 0, 1)):
        cols, values = np.empty(counts.sum(), dtype=code), np.zeros((counts.sum(), 2, 3))
        native.fill_cells(order, b, a_starts, Za, steps[0], Zb, steps[1], w, steps[2], cols, values)
        pairs = sorted(set(zip(a.tolist(), b.tolist())))
        assert cols.tolist() == [col for _, col in pairs]
        rows = [r * s for r, s in zip([np.arange(n)] * 3, steps)]
        cells = np.einsum("ni,nj,n->nij", Za[rows[0]], Zb[rows[1]], w[rows[2]])
        expected = [cells[(a == i) & (b == j)].sum(axis=0) for i, j in pairs]
        np.testing.assert_allclose(values, expected, atol=1e-12)
    out = np.zeros((ma, 2, 3))
    native.add_level_products(a, Za, 1, Zb, 1, w, 1, out)
    expected = [np.einsum("ni,nj,n->ij", Za[a == i], Zb[a == i], w[a == i]) for i in range(ma)]
    np.testing.assert_allclose(out, expected, atol=1e-12)


@pytest.mark.parametrize("code", [np.int32, np.int64])
def test_distinct_pairs(native, code):
    rng = np.random.default_rng(10)
    cells = rng.permutation(90)[:40]
    a, b = (cells // 9).astype(code), (cells % 9).astype(code)
    a_starts, b_starts = np.empty(11, dtype=np.int64), np.empty(10, dtype=np.int64)
    native.level_starts(a, a_starts)
    native.level_starts(b, b_starts)
    cols = np.empty(40, dtype=code)
    assert native.place_distinct(a, b, a_starts, b_starts, np.empty(40, dtype=code), cols) is True
    np.testing.assert_array_equal(cols, np.sort(cells) % 9)
    a[0], b[0] = a[1], b[1]
    native.level_starts(a, a_starts)
    native.level_starts(b, b_starts)
    assert native.place_distinct(a, b, a_starts, b_starts, np.empty(40, dtype=code), cols) is False


def test_components(native):
    rows, cols = np.array([0, 2, 3], dtype=np.int32), np.array([1, 1, 4], dtype=np.int32)
    parent = np.arange(10)
    native.join_components(rows, cols, 0, 5, parent)
    while not np.array_equal(parent, parent[parent]):
        parent = parent[parent]
    assert parent.tolist() == [0, 1, 0, 3, 4, 5, 0, 7, 8, 3]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tile", [5, 70_000])
@pytest.mark.parametrize(
    ("cell", "shape"), [(None, (1, 1)), (np.uint8, (2, 1)), (np.float32, (1, 3)), (np.float64, (2, 2))]
)
def test_products_of_tiles(native, dtype, tile, cell, shape):
    rng = np.random.default_rng(11)
    m_out, m_in, (k_out, k_in) = 9, 14, shape
    outs, ins = (x.astype(np.int32) for x in np.nonzero(rng.random((m_out, m_in)) < 0.7))
    outs, ins = np.tile(outs, 3), np.tile(ins, 3)  # more than one piece of 16
    nb, tiles = len(outs), max(1, -(-m_in // tile))
    values = np.ones((nb, 1, 1)) if cell is None else rng.integers(0, 9, (nb, k_out, k_in)).astype(cell)
    ptr, idx = np.empty(tiles * m_out + 1, dtype=np.int64), np.empty(nb, dtype=np.uint16 if tile < 65_536 else np.int32)
    native.count_tile_cells(outs, ins, tile, m_out, ptr)
    native.place_tile_cells(outs, ins, tile, m_out, ptr, idx)
    placed = np.empty_like(values)
    native.place_tile_values(outs, ins, tile, m_out, ptr, values, placed)
    dense = np.zeros((m_out * k_out, m_in * k_in))
    for e in range(nb):
        here = np.ix_(outs[e] * k_out + np.arange(k_out), ins[e] * k_in + np.arange(k_in))
        dense[here] += values[e]
    for width in (1, 4, 8, 16)[: 4 if dtype == np.float32 else 3]:
        x = rng.normal(size=(m_in * k_in, width)).astype(dtype)
        y = np.full((m_out * k_out, width + 3), 7.0, dtype=dtype)
        kind = (width, k_out, k_in, int(cell is None))
        given = np.empty((0, 1, 1), dtype=np.uint8) if cell is None else placed
        for first, last in ((0, 4), (4, m_out)):
            native.cell_sums(*kind, ptr, idx, given, tile, x.reshape(-1), y.reshape(-1), width + 3, 2, first, last)
        np.testing.assert_allclose(
            y[:, 2 : 2 + width], dense @ x, rtol=2e-5 if dtype == np.float32 else 1e-12, atol=1e-4
        )
        assert (y[:, [0, 1, width + 2]] == 7.0).all()
    if cell is not None:
        B, out = rng.normal(size=(m_in, k_in, k_in)), np.full((m_out, k_out, k_out), 9.0)
        native.quadratic_sums(k_out, k_in, ptr, idx, placed, tile, B, out, 0, m_out)
        expected = np.zeros_like(out)
        for e in range(nb):
            expected[outs[e]] += values[e].astype(float) @ B[ins[e]] @ values[e].T.astype(float)
        np.testing.assert_allclose(out, expected, atol=1e-10)


def test_wrong_types_and_sizes_are_refused(native):
    codes, starts = np.zeros(3, dtype=np.int16), np.zeros(2, dtype=np.int64)
    with pytest.raises(TypeError, match="level_starts: argument 1 has a type"):
        native.level_starts(codes, starts)
    with pytest.raises(TypeError, match="level_starts takes 2 arguments, not 1"):
        native.level_starts(starts)
    longer, shorter, scratch = (np.zeros(n, dtype=np.int32) for n in (4, 3, 3))
    with pytest.raises(ValueError, match="the codes differ in type or length"):
        native.place_distinct(shorter, longer, starts, starts, scratch, scratch)
    frozen = np.zeros(2, dtype=np.int64)
    frozen.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        native.level_starts(codes.astype(np.int32), frozen)
    with pytest.raises((ValueError, BufferError)):
        native.level_starts(np.zeros((3, 2), dtype=np.int32)[:, 0], starts)
