"""The one list of covariance structures: what formulas call them, their options, and how they are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from sparselmm.covariance.base import CovarianceStructure
from sparselmm.covariance.centred import Centred
from sparselmm.covariance.diagonal import Diagonal
from sparselmm.covariance.homogeneous import HomogeneousDiagonal
from sparselmm.covariance.unstructured import Unstructured
from sparselmm.exceptions import UnsupportedError


@dataclass(frozen=True)
class Kind:
    """One kind of structure.

    Attributes
    ----------
    make : callable
        Returns the structure for k coefficients.
    options : mapping
        For each option of a formula, its values in R's spelling and the key of the kind that each stands for.
    in_formulas : bool
        Whether a formula may call it by its key; others are reached by an option.
    """

    make: Callable[[int], CovarianceStructure]
    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    in_formulas: bool = True


class Registry:
    """Structures by key; iterates over the keys.

    Attributes
    ----------
    default : str
        Key of a term that names none.
    planned : frozenset of str
        What other packages have under these names, and this one has not yet.
    """

    default = "us"
    planned = frozenset(
        ["cs", "ar1", "homcs", "hetar1", "toep", "homtoep", "ou", "exp", "gau", "mat", "rr", "propto", "equalto"]
    )

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self._kinds = dict(kinds)

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def register(self, key: str, kind: Kind) -> None:
        """Add a kind."""
        self._kinds[key] = kind

    def in_formulas(self) -> tuple[str, ...]:
        """Return what a formula may write before the parenthesis of a term."""
        return tuple(key for key, kind in self._kinds.items() if kind.in_formulas)

    def options(self, key: str) -> Mapping[str, Mapping[str, str]]:
        """Return the options of a kind: their values, and the key that each stands for."""
        return self._kinds[key].options

    def make(self, key: str, k: int) -> CovarianceStructure:
        """Return a structure for k coefficients."""
        if key not in self._kinds:
            raise UnsupportedError(f"covariance structure {key!r} is not yet supported; there are {', '.join(self)}")
        return self._kinds[key].make(k)


STRUCTURES = Registry(
    {
        "us": Kind(Unstructured),
        "diag": Kind(Diagonal, {"hom": {"TRUE": "homdiag", "FALSE": "diag"}}),
        "homdiag": Kind(HomogeneousDiagonal, in_formulas=False),
    }
)


def make_structure(key: str, k: int, centre: tuple[int, tuple[float, ...]] | None = None) -> CovarianceStructure:
    """Return the registered structure for a term with k coefficients.

    With a centre, the position of a constant column and the multiples, (k,), of it that were taken from each
    column of Z, it is in the coordinates of the centred columns; unrestricted structures only.
    """
    return STRUCTURES.make(key, k) if centre is None else Centred(k, *centre)
