import copy
import dataclasses
import html.parser
import pickle
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from sparselmm.exceptions import Message, ParameterError
from sparselmm.report import Summary, summarize
from sparselmm.report.cells import short_names, stars
from sparselmm.report.latex import escape_latex

SLEEPSTUDY = """\
Linear mixed model fit by REML
Formula: Reaction ~ Days + (Days | Subject)
   Data: sleepstudy

REML criterion at convergence: 1743.6

Scaled residuals:
    Min      1Q  Median      3Q     Max
-3.9536 -0.4634  0.0231  0.4634  5.1793

Random effects:
 Groups   Name      Variance Std.Dev. Corr
 Subject  Intercept 612.10   24.741
          Days       35.07    5.922   0.07
 Residual           654.94   25.592
Number of obs: 180, groups:  Subject, 18

Fixed effects:
          Estimate Std. Error t value
Intercept  251.405      6.825  36.838
Days        10.467      1.546   6.771

Correlation of Fixed Effects:
     Intrcp
Days -0.138

Convergence: converged after 57 evaluations (bobyqa: converged)"""


def test_text_has_the_layout_of_r(fit):
    assert str(summarize(fit, correlation=True)) == SLEEPSTUDY


def test_correlation_only_on_request(fit):
    assert "Correlation" not in str(summarize(fit))


def test_ml_block(fit):
    text = str(summarize(fit.but(reml=False, criterion=1751.9393, llf=-875.9697, aic=1763.9393, bic=1783.0971)))
    assert text.startswith("Linear mixed model fit by maximum likelihood\n")
    assert "     AIC      BIC   logLik deviance df.resid\n  1763.9   1783.1   -876.0   1751.9      174\n" in text
    assert "REML criterion" not in text


def test_table_with_tests(fit, tests_table):
    text = str(summarize(fit, coef_table=tests_table))
    assert text.startswith("Linear mixed model fit by REML. t-tests use Satterthwaite's method\n")
    assert "          Estimate Std. Error     df t value Pr(>|t|)\n" in text
    assert "Days        10.467      1.546 17.000   6.771 3.26e-06 ***\n" in text
    assert "Signif. codes" in text


def test_no_legend_without_stars(fit, tests_table):
    tests_table["p_value"] = 0.5
    summary = summarize(fit, coef_table=tests_table)
    for text in (str(summary), summary.to_html(), summary.to_latex(), summary.to_markdown()):
        assert "Signif" not in text


def test_coef_table_must_belong_to_the_fit(fit, tests_table):
    with pytest.raises(ParameterError, match="p_value"):
        summarize(fit, coef_table=tests_table.drop(columns="p_value"))
    with pytest.raises(ParameterError, match="not the fixed effects"):
        summarize(fit, coef_table=tests_table.iloc[::-1])
    with pytest.raises(ParameterError, match="digits"):
        summarize(fit, digits=0)


def test_digits(fit):
    assert "251.4051    6.8246" in str(summarize(fit, digits=5)).replace("     ", "    ")


@pytest.mark.parametrize("factor", [1e12, 1e-12])
def test_extreme_scales_stay_readable(fit, factor):
    text = str(summarize(fit.scale_by(factor)))
    mantissa = {1e12: ("2.514e+14", "6.825e+12"), 1e-12: ("2.514e-10", "6.825e-12")}[factor]
    row = next(line for line in text.splitlines() if line.startswith("Intercept"))
    assert row.split()[1:] == [*mantissa, "36.838"]
    assert max(map(len, text.splitlines())) < 80


def test_no_fixed_effects(fit):
    summary = summarize(fit.without_fixed(), correlation=True)
    for text in (str(summary), summary.to_html(), summary.to_latex(), summary.to_markdown()):
        assert "No fixed effects." in text


def test_missing_residuals_are_left_out(fit):
    padded = fit.but(scaled=(np.nan, *fit.scaled, np.nan))
    assert summarize(padded).content.quantiles == pytest.approx(fit.scaled)


def test_perfect_fit_has_no_scaled_residuals(fit):
    summary = summarize(fit.but(sigma=0.0))
    assert summary.content.quantiles is None
    for text in (str(summary), summary.to_html(), summary.to_latex(), summary.to_markdown()):
        assert "Scaled residuals" not in text


def test_weights_and_offset_are_named(fit):
    summary = summarize(fit.but(weights_name="w", offset_name="o_1"))
    assert str(summary).splitlines()[2:5] == ["   Data: sleepstudy", "Weights: w", " Offset: o_1"]
    assert "Offset: o\\_1" in summary.to_latex()
    assert "Offset: o" in summary.to_markdown()
    assert "o_1" in summary.to_html()
    assert "Offset" not in str(summarize(fit))


def test_names_of_statsmodels_summaries(fit):
    summary = summarize(fit)
    with pytest.raises(AttributeError, match=r"no attribute 'as_latex'; write summary\.to_latex\(\)"):
        _ = summary.as_latex
    with pytest.raises(AttributeError, match=r"'zzz'$"):
        _ = summary.zzz
    assert str(copy.copy(summary)) == str(summary)


def test_correlations_are_aligned(awkward):
    lines = str(summarize(awkward)).splitlines()
    title = next(line for line in lines if "Corr" in line)
    rows = [line for line in lines if line.strip().startswith(("x_1", "x_2"))]
    assert [row.index("NaN") for row in rows] == [title.index("Corr")] * 2
    assert rows[1].endswith(" -0.50")
    assert sum(line.lstrip().startswith("g<1>  ") for line in lines) == 1


def test_notes_convergence_and_dropped_columns(awkward):
    text = str(summarize(awkward))
    assert "Dropped for rank deficiency: f[T.z]:x, x_9" in text
    assert "Warning: The fit is singular" in text
    assert "Info: 3 rows dropped." in text


def test_own_verdict_on_convergence_comes_first(fit):
    class Judged(type(fit)):
        convergence = "certified: gradient 1e-9\nmore"

    judged = Judged(**{f.name: getattr(fit, f.name) for f in dataclasses.fields(fit)})
    assert str(summarize(judged)).endswith("Convergence: certified: gradient 1e-9")


def test_fit_at_given_theta_has_no_optimizer(fit):
    assert summarize(fit.but(optimizer_report=None)).content.convergence == "not optimized (theta was given)"
    given = SimpleNamespace(name="fixed", status="stopped", message="theta was given", n_evaluations=1)
    assert summarize(fit.but(optimizer_report=given)).content.convergence == "theta was given"
    report = SimpleNamespace(name="cobyla", status="failed", message="", n_evaluations=1)
    assert summarize(fit.but(optimizer_report=report)).content.convergence == "failed after 1 evaluation (cobyla)"


class _Checker(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attrs):
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_html_is_well_formed_and_escaped(awkward):
    source = summarize(awkward, correlation=True)._repr_html_()
    checker = _Checker()
    checker.feed(source)
    assert checker.open == []
    assert awkward.formula in checker.text
    assert f" {awkward.data_name}" in checker.text
    assert "f[T.a_b & <c>]" in checker.text
    assert "<c>" not in source
    assert "http" not in source


def test_html_style_touches_only_its_own_elements(fit):
    style = re.search("<style>(.*)</style>", summarize(fit).to_html()).group(1)
    selectors = [s for block in style.split("}")[:-1] for s in block.split("{")[0].split(",")]
    assert all(s.startswith(".sparselmm-summary") for s in selectors)


def test_markdown_tables_are_rectangular(awkward):
    lines = summarize(awkward, correlation=True).to_markdown().splitlines()
    runs, run = [], []
    for line in [*lines, ""]:
        if line.startswith("|"):
            run.append(len(re.findall(r"(?<!\\)\|", line)))
        elif run:
            runs.append(run)
            run = []
    assert len(runs) == 5
    assert all(len(set(run)) == 1 for run in runs)
    assert "`` log(y) ~ `odd #1`" in "\n".join(lines)


def test_latex_escapes_every_special_character():
    escaped = escape_latex("\\{}$&%#_~^|<>\"'`[]*")
    rest = re.sub(r"\\[a-z]+\{\}|\\[{}$&%#_]|\{''\}|\{[\[\]*]\}|\{\$\\sim\$\}", "", escaped)
    assert rest == ""


def test_latex_numbers(fit):
    source = summarize(fit.scale_by(1e12), correlation=True).to_latex(caption="A & B", label="tab:x")
    assert r"Intercept & $2.514 \times 10^{14}$ & $6.825 \times 10^{12}$ & $36.838$ \\" in source
    assert "\\caption{A \\& B}\n\\label{tab:x}" in source
    assert "$-3.9536$" in source
    assert source.count(r"\toprule") == source.count(r"\bottomrule") == 5


def test_latex_compiles(fit, awkward, tests_table, tmp_path):
    """Where LaTeX is installed the tables compile; elsewhere at least the environments are balanced."""
    tables = [
        summarize(fit, correlation=True, coef_table=tests_table),
        summarize(awkward, correlation=True),
        summarize(fit.without_fixed()),
    ]
    body = "\n".join(t.to_latex() for t in tables)
    opened, closed = re.findall(r"\\begin\{(\w+)\}", body), re.findall(r"\\end\{(\w+)\}", body)
    assert sorted(opened) == sorted(closed)
    if shutil.which("pdflatex") is None or not _has_booktabs():
        return
    (tmp_path / "t.tex").write_text(
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n" + body + "\\end{document}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-draftmode", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]


def _has_booktabs():
    return subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True, check=False).returncode == 0


def test_wide_correlation_is_folded(fit):
    names = [f"a_long_name_{i}" for i in range(20)]
    values = pd.Series(np.arange(1.0, 21.0), names)
    wide = fit.but(params=values, bse=values, correlation=np.eye(20))
    text = str(summarize(wide, correlation=True))
    assert max(map(len, text.splitlines())) < 80
    table = text.split("Correlation of Fixed Effects:\n")[1].split("\n\n")[0]
    assert table.count("0.000") == 19 * 20 // 2


def test_short_names_are_distinct():
    assert short_names(("Intercept", "MachineB", "Days")) == ("Intrcp", "MachnB", "Days")
    assert short_names(("recipe[T.B]", "recipe[T.C]:temperature[T.185]")) == ("recipB", "rC:t185")
    names = tuple(f"variable_{c}" for c in "abcdef")
    assert len(set(short_names(names))) == 6


def test_stars():
    assert [stars(p) for p in (0.0, 0.005, 0.03, 0.07, 0.5, float("nan"))] == ["***", "**", "*", ".", "", ""]


def test_wide_letters_keep_columns_aligned(fit):
    names = ["切片", "Days"]
    text = str(summarize(fit.but(params=fit.params.set_axis(names), bse=fit.bse.set_axis(names))))
    rows = [line for line in text.splitlines() if line.startswith(("切片", "Days"))]
    assert len(rows[0]) == len(rows[1]) - 2


def test_frozen_and_picklable(fit):
    summary = summarize(fit.but(messages=(Message("singular", "warning", "What.", "How."),)), correlation=True)
    assert isinstance(summary, Summary)
    with pytest.raises(dataclasses.FrozenInstanceError):
        summary.digits = 3
    assert str(pickle.loads(pickle.dumps(summary))) == str(summary)
    assert not summary.content.correlation.flags.writeable
