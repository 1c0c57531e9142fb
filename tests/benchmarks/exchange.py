"""Tables on disk: one raw file per column, exact, which every language reads without a parser.

``columns.tsv`` lists name, kind (``float``, ``int``, ``factor``), file and file of level names. Numbers
are little-endian float64 or int32; factor codes start at 1, as R has them. ``responses.bin`` holds further
responses, column after column.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .generators import FloatArray, Table


def write_table(table: Table, folder: Path, responses: FloatArray | None = None) -> None:
    """Write a table, and responses (n, m) where there are any."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for position, (name, column) in enumerate(table.items()):
        file, levels = f"{position}.bin", "-"
        if column.levels is not None:
            kind, values, levels = "factor", (column.values + 1).astype("<i4"), f"{position}.levels"
            (folder / levels).write_text("\n".join(column.levels) + "\n", encoding="utf-8")
        elif column.values.dtype.kind == "i":
            kind, values = "int", column.values.astype("<i4")
        else:
            kind, values = "float", column.values.astype("<f8")
        np.ascontiguousarray(values).tofile(folder / file)
        lines.append("\t".join((name, kind, file, levels)))
    (folder / "columns.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if responses is not None:
        np.asarray(responses.T, dtype="<f8", order="C").tofile(folder / "responses.bin")
