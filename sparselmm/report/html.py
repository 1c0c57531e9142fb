"""The summary as a self-contained piece of HTML for light and dark notebooks."""

from __future__ import annotations

from html import escape

from sparselmm.report.cells import (
    STARS_LEGEND,
    Table,
    correlation_table,
    fixed_table,
    quantile_table,
    random_table,
    statistics_table,
)
from sparselmm.report.content import SummaryContent

__all__ = ["render_html"]

# Colours are the notebook's own text colour at several strengths, so both themes work.
_STYLE = """
.sparselmm-summary{display:inline-block;max-width:100%;font-size:13px;line-height:1.45;color:inherit;
font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
.sparselmm-summary .head{font-weight:600;font-size:15px;margin:0 0 2px}
.sparselmm-summary code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:12.5px;
background:none;color:inherit;padding:0}
.sparselmm-summary .meta{margin:0 0 10px}
.sparselmm-summary .meta span{opacity:.65;margin-right:4px}
.sparselmm-summary .scroll{overflow-x:auto;margin:0 0 12px}
.sparselmm-summary table{border-collapse:collapse;border:0;margin:0;color:inherit;background:none;font-size:13px;
font-variant-numeric:tabular-nums;border-top:1.5px solid currentColor;border-bottom:1.5px solid currentColor}
.sparselmm-summary caption{caption-side:top;text-align:left;font-weight:600;padding:0 0 4px;color:inherit;
white-space:nowrap}
.sparselmm-summary th,.sparselmm-summary td{padding:3px 12px 3px 6px;border:0;text-align:right;white-space:nowrap;
background:none;color:inherit;vertical-align:top}
.sparselmm-summary th.l,.sparselmm-summary td.l{text-align:left}
.sparselmm-summary tbody th{font-weight:400;text-align:left}
.sparselmm-summary thead th{font-weight:600;border-bottom:1px solid rgba(128,128,128,.55)}
.sparselmm-summary tbody tr{background:none}
.sparselmm-summary tbody tr.first>*{border-top:1px solid rgba(128,128,128,.25)}
.sparselmm-summary tbody tr:hover>*{background:rgba(128,128,128,.12)}
.sparselmm-summary .notes{margin:0;padding:0;list-style:none;font-size:12.5px}
.sparselmm-summary .notes li{margin:2px 0;max-width:80ch}
.sparselmm-summary .warning{border-left:3px solid #d9822b;padding-left:8px}
.sparselmm-summary .small{font-size:11.5px;opacity:.75;margin:-8px 0 12px}
""".replace("\n", "")


def render_html(content: SummaryContent, digits: int) -> str:
    """Return the summary as an HTML fragment with its own scoped style.

    Parameters
    ----------
    content : SummaryContent
        What to show; all texts are escaped.
    digits : int
        Significant digits.
    """
    parts = [
        f"<style>{_STYLE}</style>",
        f'<div class="head">{escape(content.title)}</div>',
        _meta(content),
        _table(statistics_table(content), _criterion_title(content)),
        _table(quantile_table(content, digits), "Scaled residuals"),
        _table(random_table(content, digits), "Random effects", grouped=True, caption_tail=_groups(content)),
        *_fixed(content, digits),
        _notes(content),
    ]
    return '<div class="sparselmm-summary">' + "".join(parts) + "</div>"


def _meta(content: SummaryContent) -> str:
    items = [("Formula", f"<code>{escape(content.formula)}</code>")]
    if content.data_name:
        items.append(("Data", escape(content.data_name)))
    if content.weights_name:
        items.append(("Weights", escape(content.weights_name)))
    if content.offset_name:
        items.append(("Offset", escape(content.offset_name)))
    return '<div class="meta">' + "<br>".join(f"<span>{label}</span> {value}" for label, value in items) + "</div>"


def _criterion_title(content: SummaryContent) -> str:
    if content.criterion is None:
        return "Fit statistics"
    return f"REML criterion at convergence: {content.criterion:.1f}"


def _groups(content: SummaryContent) -> str:
    groups = ", ".join(f"{escape(label)} {m:,}" for label, m in content.groups)
    return f"{content.nobs:,} observations; groups: {groups}"


def _fixed(content: SummaryContent, digits: int) -> list[str]:
    c = content.coefficients
    if not c.names:
        return ['<div class="meta">No fixed effects.</div>']
    parts = [_table(fixed_table(c, digits), "Fixed effects", row_names=True)]
    if c.p_value is not None and any(p < 0.1 for p in c.p_value):
        parts.append(f'<div class="small">{escape(STARS_LEGEND, quote=False)}</div>')
    if content.correlation is not None and len(c.names) > 1:
        parts.append(
            _table(correlation_table(c.names, content.correlation), "Correlation of fixed effects", row_names=True)
        )
    return parts


def _table(
    table: Table | None, caption: str, *, row_names: bool = False, grouped: bool = False, caption_tail: str = ""
) -> str:
    if table is None:
        return ""
    head = "".join(f'<th scope="col"{_side(a)}>{escape(h)}</th>' for h, a in zip(table.header, table.align))
    body = "".join(_row(row, table.align, row_names, grouped and i > 0) for i, row in enumerate(table.rows))
    tail = f'<div class="small">{caption_tail}</div>' if caption_tail else ""
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{tail}"
    )


def _row(row: tuple[str, ...], align: str, row_names: bool, grouped: bool) -> str:
    cells = [f"<td{_side(a)}>{_number(cell)}</td>" for cell, a in zip(row, align)]
    if row_names:
        cells[0] = f'<th scope="row" class="l">{escape(row[0])}</th>'
    first = ' class="first"' if grouped and row[0] else ""
    return f"<tr{first}>{''.join(cells)}</tr>"


def _number(cell: str) -> str:
    text = escape(cell)
    return "\u2212" + text[1:] if text.startswith("-") and text[1:2].isdigit() else text


def _side(align: str) -> str:
    return ' class="l"' if align == "l" else ""


def _notes(content: SummaryContent) -> str:
    items = [f"<li>Convergence: {escape(content.convergence)}</li>"]
    if content.dropped_columns:
        names = ", ".join(f"<code>{escape(name)}</code>" for name in content.dropped_columns)
        items.append(f'<li class="warning">Dropped for rank deficiency: {names}</li>')
    for note in content.notes:
        style = ' class="warning"' if note.severity == "warning" else ""
        items.append(f"<li{style}>{escape(note.severity.capitalize())}: {escape(note.text)}</li>")
    return f'<ul class="notes">{"".join(items)}</ul>'
