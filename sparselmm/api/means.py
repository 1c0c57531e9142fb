"""Marginal means and slopes after a fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sparselmm.api.fitting import GIVE_BACK
from sparselmm.api.inference import Inference
from sparselmm.data import EncodingSpec
from sparselmm.exceptions import ParameterError, RowsNeededError
from sparselmm.inference.fixed.methods import DEFAULT
from sparselmm.inference.means.contrasts import ContrastKind, InteractionKind
from sparselmm.inference.means.emmeans import (
    MeansRequest,
    NestingGiven,
    marginal_means,
    marginal_slopes,
    variables,
)
from sparselmm.inference.means.grid import Averages
from sparselmm.inference.means.response import TYPES, back_transform
from sparselmm.inference.means.tables import Compared, EMMeans, emmeans_tables


class Means(Inference):
    """Mixin of `MixedModelFit`."""

    def emmeans(
        self,
        specs: str | Sequence[str],
        by: str | Sequence[str] | None = None,
        at: Mapping[str, Any] | None = None,
        contrasts: ContrastKind | None = None,
        adjust: str = "tukey",
        ddf: str = DEFAULT,
        level: float = 0.95,
        interaction: InteractionKind | None = None,
        weights: str = "equal",
        nesting: NestingGiven | None = None,
        type: str = "link",
    ) -> EMMeans:
        """Return estimated marginal means, as R's emmeans.

        Parameters
        ----------
        specs : str or sequence of str
            Variables whose combinations get a mean; ``"recipe:temp"`` means both, ``"1"`` the mean of all.
        by : str or sequence of str, optional
            Variables whose combinations are treated one by one.
        at : mapping, optional
            Values of variables in place of all levels or of the mean.
        contrasts : str or mapping, optional
            ``"pairwise"``, ``"revpairwise"``, ``"trt.vs.ctrl"``, ``"consec"``, ``"eff"``, ``"poly"``, or
            coefficients by name: ``{"b - a": [-1, 1, 0]}`` or ``{"b - a": {"b": 1, "a": -1}}``.
        adjust : {"tukey", "holm", "bonferroni", "sidak", "fdr", "none"}
            For contrasts, within each combination of ``by``; ``"tukey"`` means ``"sidak"`` for
            contrasts that are not pairwise, and ``"none"`` for polynomials and interactions.
        ddf, level
            As for `coef_table`.
        interaction : str, sequence or mapping, optional
            Contrasts of contrasts: one of the names above for all variables of ``specs``, or one for each.
        weights : {"equal", "proportional", "cells"}
            How the levels count that are averaged over: equally, by how often they occur in all rows, or by how
            often they occur in the combination shown. Prior weights do not matter here, as in emmeans.
        nesting : mapping or str, optional
            Factors within others, ``{"strain": "geno"}``; found in the data by default. ``{}`` for none.
        type : {"link", "response"}
            ``"response"`` goes back from ``log(y)`` and the like to y, with delta-method standard errors;
            differences of logarithms become ratios.

        Returns
        -------
        EMMeans
            With the data frames ``means`` and ``contrasts``.

        Notes
        -----
        The grid crosses all levels of the factors with the means of the covariates; a covariate with two
        values counts as a factor. Levels of a nested factor are averaged within the factors in which they lie.

        Examples
        --------
        >>> import sparselmm as slm
        >>> fit = slm.lmer("score ~ Machine + (1 | Worker) + (1 | Worker:Machine)", slm.load_dataset("machines"))
        >>> fit.emmeans("Machine").means[["Machine", "emmean", "df"]].round(2)
          Machine  emmean    df
        0       A   52.36  8.52
        1       B   60.32  8.52
        2       C   66.27  8.52
        """
        if type not in TYPES:
            raise ParameterError(f"type must be one of {', '.join(map(repr, TYPES))}, not {type!r}")
        method, compared = self._method(ddf), Compared(contrasts, interaction, adjust, level)
        encoding, known = self._known()
        back = back_transform(encoding) if type == "response" else None
        asked = MeansRequest(variables(specs, known.variables), variables(by, known.variables), at, nesting, weights)
        found = marginal_means(encoding, known, asked)
        return emmeans_tables(method, found, compared, back)

    def emtrends(
        self,
        specs: str | Sequence[str],
        var: str,
        by: str | Sequence[str] | None = None,
        at: Mapping[str, Any] | None = None,
        contrasts: ContrastKind | None = None,
        adjust: str = "tukey",
        ddf: str = DEFAULT,
        level: float = 0.95,
        interaction: InteractionKind | None = None,
        weights: str = "equal",
        nesting: NestingGiven | None = None,
    ) -> EMMeans:
        """Return slopes by a covariate for the levels of factors, as R's emtrends.

        Parameters
        ----------
        specs : str or sequence of str
            Variables whose combinations get a slope; ``"1"`` for one slope averaged over all.
        var : str
            The covariate. The slope is the derivative at its mean, or at the values of ``at=``.
        by, at, contrasts, adjust, ddf, level, interaction, weights, nesting
            As for `emmeans`.

        Returns
        -------
        EMMeans
            With the data frames ``means`` (the slopes, in the column ``x.trend`` for ``"x"``) and ``contrasts``.

        Examples
        --------
        >>> import sparselmm as slm
        >>> fit = slm.lmer("angle ~ recipe * temp + (1 | recipe:replicate)", slm.load_dataset("cake"))
        >>> fit.emtrends("recipe", "temp").means[["recipe", "temp.trend", "std_error"]].round(4)
          recipe  temp.trend  std_error
        0      A      0.1537     0.0282
        1      B      0.1646     0.0282
        2      C      0.1558     0.0282
        """
        method, compared = self._method(ddf), Compared(contrasts, interaction, adjust, level)
        encoding, known = self._known()
        asked = MeansRequest(variables(specs, known.variables), variables(by, known.variables), at, nesting, weights)
        [name] = variables(var, known.variables) or [var]
        found = marginal_slopes(encoding, known, name, asked)
        return emmeans_tables(method, found, compared)

    def _known(self) -> tuple[EncodingSpec, Averages]:
        """Return the encoding, and the levels and means of the variables of the fixed part."""
        encoding = self.source.encoding
        if encoding is None:
            raise ParameterError("a model made from arrays has no variables to average over; use t_test")
        known = self.row_facts.averages
        if known is None:
            raise RowsNeededError(f"marginal means need the levels and means of the data: {GIVE_BACK}")
        return encoding, known
