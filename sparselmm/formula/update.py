"""Changing a formula by another one in which ``.`` means "as before"."""

from __future__ import annotations

from sparselmm.exceptions import FormulaError
from sparselmm.formula.algebra import TermList, expand_terms
from sparselmm.formula.bars import Bar, is_bar, random_terms, split_parts, unwrap
from sparselmm.formula.nodes import Call, Name, Node, Paren, rebuilt, render, sum_of
from sparselmm.formula.parse import split_sides
from sparselmm.formula.spec import ModelSpec, Structures

_MARK = "random term "


def sides_of(spec: ModelSpec) -> tuple[Node, Node]:
    """Return the response and the right side of a formula of the same model."""
    bars = dict.fromkeys(term.source for term in spec.random)
    offsets = [Call("offset", (offset.node,), ()) for offset in spec.offsets]
    return spec.response.node, sum_of([spec.fixed.node, *offsets, *(bar.node for bar in bars)])


def render_spec(spec: ModelSpec) -> str:
    """Return a formula that parses to the same model."""
    return " ~ ".join(map(render, sides_of(spec)))


def update_formula(old: ModelSpec | str, new: str, structures: Structures) -> str:
    """Return the formula ``old`` changed as ``new`` says, following R's ``update``.

    Parameters
    ----------
    old : ModelSpec or str
        The model as it is.
    new : str
        A formula in which ``.`` stands for the same side of the old one, for example
        ``". ~ . - x"``, ``"log(.) ~ . + (1 | h)"`` or ``"~ . - (1 | h)"``.

    structures : Structures
        The covariance structures that they may name.

    Raises
    ------
    FormulaError
        When either formula cannot be read.

    Examples
    --------
    >>> from sparselmm.covariance import STRUCTURES
    >>> update_formula("y ~ x + z + (1 | g)", ". ~ . - x + (1 | h)", STRUCTURES)
    'y ~ 1 + z + (1 | g) + (1 | h)'
    """
    if not isinstance(new, str):
        raise FormulaError(f"the new formula must be a text such as '. ~ . - x', not {type(new).__name__}")
    old_lhs, old_rhs = sides_of(old) if isinstance(old, ModelSpec) else split_sides(old)
    text = new.strip()
    new_lhs, new_rhs = split_sides(f". {text}" if text.startswith("~") else text)
    response = render(_replace_dot(new_lhs, old_lhs))
    bars: dict[str, str] = {}
    offsets: dict[str, str] = {}
    tree = _mark(_replace_dot(new_rhs, Paren(old_rhs)), bars, offsets, structures)
    terms = expand_terms(tree)
    special = bars | offsets
    plain = TermList(terms.intercept, tuple(t for t in terms.terms if not special.keys() & set(t)))
    kept = [special[t[0]] for t in terms.terms if len(t) == 1 and t[0] in special]
    return f"{response} ~ {' + '.join([str(plain), *kept])}"


def _replace_dot(node: Node, meaning: Node) -> Node:
    if isinstance(node, Name) and node.name == ".":
        return meaning
    return rebuilt(node, lambda part: _replace_dot(part, meaning))


def _mark(node: Node, bars: dict[str, str], offsets: dict[str, str], structures: Structures) -> Node:
    """Replace each bar and offset by a name of its own, so that the algebra can add and remove it."""
    inner = unwrap(node)
    if is_bar(inner) or (isinstance(inner, Call) and inner.args and is_bar(inner.args[0])):
        (bar,) = split_parts(inner, structures).bars
        name = _MARK + _key(bar)
        bars.setdefault(f"`{name}`", bar.source)
        return Name(name)
    if isinstance(node, Call):
        if node.func == "offset":
            name = render(node)
            offsets.setdefault(name, name)
        return node
    return rebuilt(node, lambda part: _mark(part, bars, offsets, structures))


def _key(bar: Bar) -> str:
    """Return a text that is the same for all spellings of a term: ``(x | g)`` and ``(1 + x | g)``."""
    return "; ".join(f"{t.structure} {t.lhs} by {t.label}" for t in random_terms(bar)).replace("`", "'")
