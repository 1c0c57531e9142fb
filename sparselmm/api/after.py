"""What follows a fit: random effects with variances, prediction, simulation, saving."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt
import pandas as pd

from sparselmm._typing import FloatArray, IntArray
from sparselmm.api.estimates import Estimates
from sparselmm.api.prediction import Predictor
from sparselmm.data import EncodingSpec
from sparselmm.data.tables.frame import as_frame
from sparselmm.exceptions import ParameterError
from sparselmm.inference.frames import modes_by_label, pad_rows
from sparselmm.inference.predict.conditional_variance import (
    ConditionalModes,
    Levels,
    chosen_levels,
    covariances_of_sets,
    label_covariances,
    tidy_modes,
)
from sparselmm.inference.predict.error_variance import PredictionErrors, TermPart, prediction_errors
from sparselmm.inference.predict.new_rows import (
    EncodedRows,
    Selection,
    check_positive,
    encode_rows,
    own_rows,
    select_effects,
)
from sparselmm.inference.predict.prediction import Effects, Predicted, check_level, point, result_effects
from sparselmm.inference.predict.simulate import Draws, count, named_values, positive, simulate
from sparselmm.storage.saving import save_fit


class AfterFit(Predictor, Estimates):
    """Mixin of `MixedModelFit`."""

    # --- what prediction asks for ------------------------------------------------------------

    def _joint(self) -> PredictionErrors:
        return prediction_errors(self.problem.engine, self.result.par)

    def _effects(self) -> Effects:
        return result_effects(self.result, self._joint)

    def _encoding(self) -> EncodingSpec | None:
        return self.source.encoding

    def _given_names(self) -> tuple[str | None, str | None]:
        return self.source.weights_name, self.source.offset_name

    def _own_rows(self) -> tuple[EncodedRows, FloatArray | None]:
        observed = self.result.observed("predictions and draws for the rows of the fit", "pass newdata")
        return own_rows(observed), observed.weights

    def _labelled(self, found: Predicted, own: bool) -> Predicted:
        """Return predictions for the rows of the fit padded as its fitted values are."""
        if not own or self.result.layout.na_action != "exclude":
            return found
        observed = self.result.observed("predictions for the rows of the fit", "pass newdata")
        variance = None if found.variance is None else pad_rows(observed, found.variance)
        return Predicted(pad_rows(observed, found.mean), variance, observed.frame_index)

    # --- random effects ------------------------------------------------------------------------

    @overload
    def ranef(self, condvar: Literal[False] = False, levels: Levels | None = None) -> dict[str, pd.DataFrame]: ...
    @overload
    def ranef(self, condvar: Literal[True], levels: Levels | None = None) -> dict[str, ConditionalModes]: ...
    @overload
    def ranef(
        self, condvar: bool, levels: Levels | None = None
    ) -> dict[str, pd.DataFrame] | dict[str, ConditionalModes]: ...

    def ranef(
        self, condvar: bool = False, levels: Levels | None = None
    ) -> dict[str, pd.DataFrame] | dict[str, ConditionalModes]:
        """Return the conditional modes per grouping label, with their covariances on request.

        Parameters
        ----------
        condvar : bool
            False (default): a table of levels × coefficients per label. True: per label an object with
            ``modes`` (that table), ``cov`` (levels, K, K), ``cov_by_term`` and ``sd``. The covariances are
            those given y and the estimated parameters, as lme4's ``condVar``; they leave out the
            uncertainty of β, which `predict` includes.
        levels : mapping, optional
            Levels that are wanted by grouping label, None for all of a label; labels that are not named
            are left out.

        Notes
        -----
        After a fit by the iterative solver the covariances of chosen levels are exact, by solving for
        them (up to 5,000 columns of Z). Those of all levels are estimated with the probes of the fit:
        ``exact`` is then False, and ``cov_error`` and ``sd_error`` are their Monte Carlo standard errors.

        Examples
        --------
        >>> import sparselmm as slm
        >>> fit = slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
        >>> fit.ranef()["Subject"].loc["308"].round(3).to_dict()
        {'Intercept': 2.259, 'Days': 9.199}
        >>> found = fit.ranef(condvar=True, levels={"Subject": ["308", "309"]})
        >>> found["Subject"].sd.loc["308"].round(3).to_dict()
        {'Intercept': 12.071, 'Days': 2.305}
        """
        modes = modes_by_label(self.result)
        if not isinstance(condvar, bool | np.bool_):
            chosen = condvar if condvar in modes else next(iter(modes))
            raise ParameterError(f"condvar must be True or False; the modes of one factor are ranef()[{chosen!r}]")
        wanted = chosen_levels({label: frame.index for label, frame in modes.items()}, levels)
        shown = {label: modes[label] if at is None else modes[label].iloc[at] for label, at in wanted.items()}
        if not condvar:
            return shown
        terms = self.result.layout.terms
        groups = [[t for t, term in enumerate(terms) if term.label == label] for label in shown]
        found = label_covariances(self._joint(), self.result.sigma, groups, list(wanted.values()))
        return {
            label: ConditionalModes(
                frame, cov.whole, {terms[t].name: block for t, block in zip(group, cov.by_term())}, cov.error
            )
            for (label, frame), group, cov in zip(shown.items(), groups, found)
        }

    def ranef_table(self, level: float = 0.95, levels: Levels | None = None) -> pd.DataFrame:
        """Return the random effects as one tidy table.

        Parameters
        ----------
        level : float
            Coverage of the normal intervals.
        levels : mapping, optional
            As for `ranef`, where it is said when the standard deviations are estimates.

        Returns
        -------
        pandas.DataFrame
            One row per level and coefficient: ``grp``, ``term``, ``level``, ``estimate``, ``std_dev``,
            ``conf_low``, ``conf_high``.
        """
        return tidy_modes(self.ranef(condvar=True, levels=levels), check_level(level))

    # --- simulation ----------------------------------------------------------------------------------

    def simulate(
        self,
        nsim: int = 1,
        seed: Any = None,
        *,
        re_form: str | float | None = "~0",
        newdata: Any = None,
        newparams: Mapping[str, Any] | None = None,
        allow_new_levels: bool = False,
        weights: str | npt.ArrayLike | None = None,
        offset: str | npt.ArrayLike | None = None,
    ) -> pd.DataFrame:
        """Draw responses from the fitted model.

        Parameters
        ----------
        nsim : int
            How many.
        seed : None, int or numpy.random.SeedSequence
            Column i depends on the seed and on i alone: more simulations do not change the first ones.
        re_form : None, str or NaN
            Random effects kept at their conditional modes; all others are drawn anew. ``"~0"`` (default,
            as in lme4's ``simulate``) draws all of them, None keeps all, ``"~(1 | g)"`` some terms.
        newdata : table, optional
            Rows to simulate for; by default those of the fit.
        newparams : mapping, optional
            ``theta``, ``beta`` or ``sigma`` in place of the estimates.
        allow_new_levels : bool
            Whether new levels of terms that are kept count as zero; terms drawn anew may have any.
        weights, offset : str, number or (n,) array, optional
            For newdata, as in `predict`.

        Returns
        -------
        pandas.DataFrame
            One column ``sim_1``, ``sim_2``, ... per simulation, on the scale of the left side of the formula.

        Examples
        --------
        >>> import sparselmm as slm
        >>> fit = slm.lmer("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff"))
        >>> list(fit.simulate(3, seed=1).columns)
        ['sim_1', 'sim_2', 'sim_3']
        """
        nsim, effects = count(nsim), self._effects()
        selection = select_effects(re_form, self._encoding(), effects.sizes)
        if any(s.any() and not s.all() for s in selection):
            raise ParameterError("re_form takes some of the correlated coefficients of a term; keep or draw it whole")
        effects = self._changed(effects, newparams or {})
        if newdata is None:
            if weights is not None or offset is not None:
                raise ParameterError("weights and offset are for new data; the rows of the fit have their own")
            rows, prior = self._own_rows()
        else:
            rows, prior = self._rows_to_draw(newdata, selection, allow_new_levels, weights, offset)
        drawn = [t for t, chosen in enumerate(selection) if not chosen.any()]
        mean = point(effects, selection, rows)
        mean[rows.missing] = np.nan
        parts = tuple(part for t in drawn if (part := rows.parts[t]) is not None)
        draws = Draws(mean, parts, tuple(effects.factors[t] for t in drawn), effects.sigma, prior)
        return self._simulated(simulate(draws, nsim, seed), rows, newdata is None)

    def _simulated(self, values: FloatArray, rows: EncodedRows, own: bool) -> pd.DataFrame:
        index = rows.index
        if own and self.result.layout.na_action == "exclude":
            observed = self.result.observed("draws for the rows of the fit", "pass newdata")
            values, index = pad_rows(observed, values), observed.frame_index
        return pd.DataFrame(values, index=index, columns=[f"sim_{i + 1}" for i in range(values.shape[1])])

    def _changed(self, effects: Effects, newparams: Mapping[str, Any]) -> Effects:
        unknown = set(newparams) - {"theta", "beta", "sigma"}
        if unknown:
            names = ", ".join(sorted(map(str, unknown)))
            raise ParameterError(f"newparams may hold theta, beta and sigma, not {names}")
        beta, sigma, factors = effects.beta, effects.sigma, effects.factors
        if "beta" in newparams:
            beta = named_values(newparams["beta"], self.result.layout.columns, "newparams['beta']")
        if "sigma" in newparams:
            sigma = positive(newparams["sigma"], "newparams['sigma']")
        if "theta" in newparams:
            parameters = self.problem.engine.parameters
            theta = named_values(newparams["theta"], self.problem.theta_names, "newparams['theta']")
            factors = parameters.reported_templates(parameters.par(theta))
        return Effects(beta, sigma, effects.modes, factors, effects.joint)

    def _rows_to_draw(
        self,
        newdata: Any,
        selection: Selection,
        allow_new_levels: bool,
        weights: str | npt.ArrayLike | None,
        offset: str | npt.ArrayLike | None,
    ) -> tuple[EncodedRows, FloatArray | None]:
        """Return new data with the levels of terms to draw numbered among themselves, and the weights."""
        encoding, frame = self._read_with(), as_frame(newdata)
        rows = encode_rows(encoding, frame, selection, bool(allow_new_levels), all_terms=True)
        parts = list(rows.parts)
        for t, chosen in enumerate(selection):
            part = parts[t]
            if not chosen.any() and isinstance(part, TermPart):
                parts[t] = TermPart(encoding.own_levels(t, frame), part.Z)
        shift, prior = self._offset(offset, frame.index), self._weights(weights, frame.index)
        total = rows.shift if shift is None else rows.shift + shift.take(frame, 0)
        w = None if prior is None else check_positive(prior.take(frame, 0), frame.index)
        return EncodedRows(rows.X, total, tuple(parts), rows.missing, rows.index), w

    # --- saving ----------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], include: str | None = None) -> None:
        """Write what is needed to predict elsewhere to a file that holds no data and no code.

        Parameters
        ----------
        path : str or path
            The file; an existing one is replaced.
        include : {None, "variances"}
            ``"variances"`` adds what standard errors of predictions need. Without it the size grows with the
            number of random effects, with it also with the number of pairs of levels that occur together.

        Raises
        ------
        UnsupportedError
            When the formula uses a function or array that came from ``context=``.

        Examples
        --------
        >>> import sparselmm as slm
        >>> fit = slm.lmer("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff"))
        >>> fit.save("dyestuff.slmm")
        >>> slm.load("dyestuff.slmm").predict({"Batch": ["A", "B"]}).round(3).tolist()
        [1509.893, 1527.891]
        """
        save_fit(self, path, include, self._joint)


def covariances_by_set(fit: AfterFit, sets: Sequence[IntArray]) -> list[FloatArray]:
    """Return Cov(b | y), (s, s), of sets of random effects that are independent of each other given y.

    Parameters
    ----------
    fit : MixedModelFit
        The fit.
    sets : sequence of (s,) int arrays
        Positions among the q random effects, for example those of one group each.
    """
    return covariances_of_sets(fit._joint(), fit.result.sigma, sets)
