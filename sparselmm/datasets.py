"""Small real data sets that come with the package.

`manifest.json` next to the files says what each set holds, where it comes from and
under which licence. In an installed package the folder is ``sparselmm/_datasets``;
in a checkout (and an editable install) it is ``data`` beside the package.
"""

from __future__ import annotations

import difflib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._typing import IntArray
from sparselmm.exceptions import DataError

_PACKAGE = Path(__file__).resolve().parent
#: Where the data may be, in the order in which the places are tried.
_PLACES = (_PACKAGE / "_datasets", _PACKAGE.parent / "data")

# pandas 3 reads decimals exactly and deprecates the option; before, it had to be asked to
_EXACT: dict[str, Any] = {} if int(pd.__version__.split(".")[0]) >= 3 else {"float_precision": "round_trip"}


def load_dataset(name: str) -> pd.DataFrame:
    """Data set `name` as a data frame, with factors as categorical columns.

    Parameters
    ----------
    name : str
        Name of the set as `list_datasets` gives it. Upper and lower case, spaces,
        hyphens and underscores make no difference.

    Returns
    -------
    pandas.DataFrame
        One row per observation. Factors are unordered `Categorical` columns with the
        order of levels used by R (the first one is the baseline of a treatment
        contrast); everything else is numeric, with NaN where a value is missing.

    Raises
    ------
    DataError
        If there is no such set, or its file is missing or does not match the manifest.

    Examples
    --------
    >>> sleepstudy = load_dataset("sleepstudy")
    >>> sleepstudy.shape
    (180, 3)
    >>> list(sleepstudy["Subject"].cat.categories[:3])
    ['308', '309', '310']
    """
    folder, entries = _manifest()
    entry = _find(name, entries)
    frame = _read(folder / entry["file"], entry)
    if len(frame) != entry["nrow"] or list(frame.columns) != [c["name"] for c in entry["columns"]]:
        raise DataError(
            f"The file {entry['file']} of data set {entry['name']!r} has {len(frame)} rows and columns "
            f"{', '.join(frame.columns)}; the manifest expects {entry['nrow']} rows. Reinstall the package."
        )
    return frame


def list_datasets() -> pd.DataFrame:
    """Table of the data sets that `load_dataset` knows.

    Returns
    -------
    pandas.DataFrame
        One row per set: ``name``, ``rows`` and ``columns`` (counts), ``licence`` (SPDX
        identifier), ``source`` (where the copy comes from) and ``description``.

    Examples
    --------
    >>> sets = list_datasets().set_index("name")
    >>> int(sets.loc["InstEval", "rows"])
    73421
    """
    rows = [
        {
            "name": e["name"],
            "rows": e["nrow"],
            "columns": len(e["columns"]),
            "licence": e["licence"],
            "source": e["source"],
            "description": e["description"],
        }
        for e in _manifest()[1].values()
    ]
    return pd.DataFrame(rows)


@lru_cache(maxsize=1)
def _manifest() -> tuple[Path, dict[str, dict[str, Any]]]:
    """Folder of the data, and the manifest's entries by normalized name."""
    for folder in _PLACES:
        path = folder / "manifest.json"
        if path.is_file():
            entries = json.loads(path.read_text(encoding="utf-8"))["datasets"]
            return folder, {_normalized(e["name"]): e for e in entries}
    places = " or ".join(str(p) for p in _PLACES)
    raise DataError(f"The data sets of the package are missing: no manifest.json in {places}. Reinstall the package.")


def _normalized(name: str) -> str:
    return "".join(ch for ch in name.casefold() if ch.isalnum())


def _find(name: str, entries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Entry of the set called `name`, or an error that helps to spell it."""
    if not isinstance(name, str):
        raise DataError(f"The name of a data set must be a string, not {type(name).__name__}.")
    key = _normalized(name)
    if key in entries:
        return entries[key]
    near = difflib.get_close_matches(key, entries, n=1, cutoff=0.5)
    hint = f" Did you mean {entries[near[0]]['name']!r}?" if near else ""
    known = ", ".join(e["name"] for e in entries.values())
    raise DataError(f"There is no data set {name!r}.{hint} The data sets are: {known}.")


def _read(path: Path, entry: dict[str, Any]) -> pd.DataFrame:
    """Read one csv file, with the types the manifest gives to its columns."""
    by_integer = {c["name"]: _integer_levels(c) for c in entry["columns"] if c["type"] == "factor"}
    dtypes: dict[str, Any] = {}
    for column in entry["columns"]:
        name = column["name"]
        if column["type"] == "factor":
            dtypes[name] = np.int64 if by_integer[name] is not None else pd.CategoricalDtype(column["levels"])
        else:
            dtypes[name] = np.int64 if column["integer"] and not column.get("missing") else np.float64
    try:
        frame: pd.DataFrame = pd.read_csv(
            path, dtype=dtypes, keep_default_na=False, na_values=["NA"], engine="c", **_EXACT
        )
    except FileNotFoundError:
        raise DataError(f"The file of data set {entry['name']!r} is missing: {path}. Reinstall the package.") from None
    for column in entry["columns"]:
        levels = by_integer.get(column["name"])
        if levels is not None:
            codes = _codes(frame[column["name"]].to_numpy(), levels)
            frame[column["name"]] = pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(column["levels"]))
    return frame


def _integer_levels(column: dict[str, Any]) -> IntArray | None:
    """Levels as integers when every one is written as a plain integer, else None.

    Reading such a factor as integers and looking its codes up is far faster than
    parsing tens of thousands of strings.
    """
    if column.get("missing") or not all(level.isdecimal() and str(int(level)) == level for level in column["levels"]):
        return None
    return np.array(column["levels"], dtype=np.int64)


def _codes(values: IntArray, levels: IntArray) -> IntArray:
    """Position of each value in `levels` (distinct, in any order), -1 where there is none."""
    order = np.argsort(levels)
    codes: IntArray = order[np.searchsorted(levels, values, sorter=order).clip(max=len(levels) - 1)]
    codes[levels[codes] != values] = -1
    return codes
