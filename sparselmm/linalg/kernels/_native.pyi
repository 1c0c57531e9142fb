"""Loops in C (folder `native`), for arrays that are C-contiguous; Python's lock is given up while they run.

Sparse matrices come as positions ``indptr`` (int32 or int64), ``indices`` (int32 or int64) and values (float64).
A call with types that a loop is not compiled for is a TypeError, one with sizes that do not fit a ValueError.
"""

from sparselmm._typing import AnyArray, FloatArray, IntArray

def weighted_gram_lower(
    indptr: IntArray,
    indices: IntArray,
    left: FloatArray,
    right: FloatArray,
    panel_ptr: IntArray,
    panel_rows: IntArray,
    panel_first: IntArray,
    width: int,
    d: FloatArray,
    out: FloatArray,
) -> None:
    """Fill the lower triangle of A' diag(d) B, (q, q), where that product is symmetric.

    A and B have the values ``left`` and ``right`` in one pattern with sorted indices. Rows of the result are
    gathered in panels of ``width``, small enough to stay in cache: ``panel_rows`` lists the rows of A that touch
    each panel and ``panel_first`` their first entry in it.
    """

def two_weighted_grams_lower(
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    panel_ptr: IntArray,
    panel_rows: IntArray,
    panel_first: IntArray,
    width: int,
    d: FloatArray,
    e2: FloatArray,
    out: FloatArray,
    other: FloatArray,
) -> None:
    """Fill the lower triangles of A' diag(d) A and A' diag(e2) A in one pass, as `weighted_gram_lower` does."""

def level_quadratic_forms(
    indptr: IntArray, indices: IntArray, data: FloatArray, K: int, inner: FloatArray, out: FloatArray
) -> None:
    """Fill out[l] = A_l inner A_l' for groups of K rows with one pattern; the lower part of inner is read."""

def pattern_products(ptr: IntArray, columns: IntArray, values: FloatArray, inner: FloatArray, out: FloatArray) -> None:
    """Fill out[x] = Σ_y inner[c_x, c_y] values[y] over the cells y of the level of cell x."""

def subtract_products(
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    column_ptr: IntArray,
    rows: IntArray,
    places: IntArray,
    first: int,
    top: int,
    out: FloatArray,
) -> None:
    """Subtract entries of B'B from out, (columns, rows from ``top`` on), for columns from ``first`` on.

    ``column_ptr``, ``rows`` and ``places`` list the entries of B by columns, with where they are in ``data``. Only
    entries on and below the diagonal are formed.
    """

def squares_of_rows(
    back_ptr: IntArray,
    back_idx: IntArray,
    back_val: FloatArray,
    ptr: IntArray,
    idx: IntArray,
    val: FloatArray,
    r_ptr: IntArray,
    r_idx: IntArray,
    r_val: FloatArray,
    first: int,
    last: int,
) -> float:
    """Return the sum of squares of the rows first to last of W'W - R.

    W is given by rows (ptr, ...) and by columns (back_ptr, ...), R by rows.
    """

def takahashi(indptr: IntArray, indices: IntArray, L: FloatArray, cut: int, dense: FloatArray, out: FloatArray) -> None:
    """Fill out with the entries of (LL')⁻¹ in the pattern of the columns of L before ``cut``.

    L is given by columns with sorted rows and a pattern closed under elimination; ``dense`` is the part of the
    inverse from row and column ``cut`` on.
    """

def column_counts(indptr: IntArray, indices: IntArray, counts: IntArray) -> None:
    """Fill counts, (q,), with the entries per column of L for the rows of a lower triangle."""

def level_starts(codes: IntArray, starts: IntArray) -> None:
    """Fill starts, (m + 1,), with where each level begins among the rows sorted by level."""

def place_distinct(
    a: IntArray, b: IntArray, a_starts: IntArray, b_starts: IntArray, by_b: IntArray, cols: IntArray
) -> bool:
    """Fill cols with the codes b sorted by (a, b); return False where a pair of codes occurs twice.

    ``by_b`` is scratch.
    """

def sort_by_pair(
    a: IntArray, b: IntArray, a_starts: IntArray, b_starts: IntArray, by_b: IntArray, order: IntArray
) -> None:
    """Fill order with the rows sorted by (a, b), rows of one pair in their order; ``by_b`` is scratch."""

def count_cells(order: IntArray, b: IntArray, a_starts: IntArray, counts: IntArray) -> None:
    """Fill counts, (m_a,), with the distinct codes b of each level of a, for rows sorted by both."""

def fill_cells(
    order: IntArray,
    b: IntArray,
    a_starts: IntArray,
    Za: FloatArray,
    step_a: int,
    Zb: FloatArray,
    step_b: int,
    w: FloatArray,
    step_w: int,
    cols: IntArray,
    values: FloatArray,
) -> None:
    """Add Σ w z_a z_b' of each pair to values, (cells, k_a, k_b), and fill cols.

    A matrix with one row that stands for all has a step of zero, any other a step of one.
    """

def add_level_products(
    codes: IntArray,
    Z: FloatArray,
    step: int,
    right: FloatArray,
    step_right: int,
    w: FloatArray,
    step_w: int,
    out: FloatArray,
) -> None:
    """Add w z x' of each row to the block of its level in out, (m, k, r); x are rows of ``right``."""

def join_components(rows: IntArray, cols: IntArray, first_row: int, first_col: int, parent: IntArray) -> None:
    """Join the trees of both ends of each pair in ``parent``, where the smallest member is the root."""

def cell_sums(
    width: int,
    k_out: int,
    k_in: int,
    ones: int,
    ptr: IntArray,
    idx: AnyArray,
    values: AnyArray,
    tile: int,
    x: FloatArray,
    y: FloatArray,
    stride: int,
    column: int,
    first: int,
    last: int,
) -> None:
    """Write Σ_j a_ij x_j for the levels i from first to last into ``width`` columns of y, from ``column`` on.

    The cells a_ij are ``values``, (nb, k_out, k_in), of one byte, float32 or float64, or all 1 (``ones``). x is
    (m_in*k_in, width) and y (m_out*k_out, stride), both flattened, float32 or float64; width is 1, 4, 8 or, for
    float32, 16. The cells of output level i whose input level lies in tile t are ``idx[ptr[s]:ptr[s + 1]]`` with
    s = t*m_out + i, uint16 or int32, relative to the first level of the tile.
    """

def quadratic_sums(
    k_out: int,
    k_in: int,
    ptr: IntArray,
    idx: AnyArray,
    values: AnyArray,
    tile: int,
    B: FloatArray,
    out: FloatArray,
    first: int,
    last: int,
) -> None:
    """Fill out[i] = Σ_j a_ij B_j a_ij' for the levels i from first to last; B is (m_in, k_in, k_in)."""

def count_tile_cells(outs: IntArray, ins: IntArray, tile: int, m_out: int, ptr: IntArray) -> None:
    """Fill ptr, (tiles*m_out + 1,), with the first cell of each output level in each tile of input levels."""

def place_tile_cells(outs: IntArray, ins: IntArray, tile: int, m_out: int, ptr: IntArray, idx: AnyArray) -> None:
    """Fill idx, (nb,), with the input levels inside their tile, in the order that ``ptr`` describes."""

def place_tile_values(
    outs: IntArray, ins: IntArray, tile: int, m_out: int, ptr: IntArray, values: AnyArray, placed: AnyArray
) -> None:
    """Fill placed, (nb, k_out, k_in), with the values of the cells in the order that ``ptr`` describes."""
