"""Saved models changed at random, with digests that fit, and all that is done with a model that was loaded."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import sys
import traceback
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

import sparselmm as slm
from sparselmm.exceptions import SparseLMMError

OLD = Path(__file__).parent / "old"
ROWS = pd.DataFrame(json.loads((OLD / "format1.json").read_text())["rows"])
VALUES = [
    None, True, False, 0, 1, -1, 2, 7, 10**6, 2**31, 2**63, -(2**40), 0.5, float("nan"), float("inf"), -1e300,
    "", "a", "x", "(", "g", "h:f", "f + x", "x[0]", "poly(x, 2)", "cut(x, 3)", "factor(x)", "bs(x, df=9)", "<i8", "us",
    [], {}, [1, 2], ["a"], {"tuple": []}, {"dict": []}, {"member": 0}, {"member": 3}, {"member": -1},
    {"array": [1.0], "dtype": "<f8"}, {"array": [1, 2, 3], "dtype": "<i8"}, {"index": {"member": 1}, "name": None},
    {"texts": ["a", "a"], "string": False, "name": None}, {"texts": [], "string": True, "name": None},
    {"record": "Block", "fields": {}}, {"mixed": [1, "a"], "name": "g"},
]  # fmt: skip


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path, contents, fresh=True):
    """Write the members of an archive, with digests that fit them."""
    if fresh and "header.json" in contents:
        header = json.loads(contents["header.json"])
        header["sha256"] = {n: hashlib.sha256(c).hexdigest() for n, c in contents.items() if n != "header.json"}
        contents = {**contents, "header.json": json.dumps(header).encode()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


def as_member(array):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()


# --- the changes ----------------------------------------------------------------------------------


def bytes_changed(path, contents, rng):
    whole = bytearray(path.read_bytes())
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(len(whole)))
        what = rng.integers(4)
        if what == 0:
            whole[at] ^= int(rng.integers(1, 256))
        elif what == 1:
            del whole[at : at + int(rng.integers(1, 50))]
        elif what == 2:
            whole[at:at] = rng.bytes(int(rng.integers(1, 50)))
        else:
            whole[at : at + 4] = rng.bytes(4)
        if not whole:
            break
    path.write_bytes(bytes(whole))


def members_changed(path, contents, rng):
    names = list(contents)
    name, other = (names[i] for i in rng.choice(len(names), 2, replace=False))
    what = rng.integers(6)
    if what == 0:
        contents.pop(name)
    elif what == 1:
        contents[name], contents[other] = contents[other], contents[name]
    elif what == 2:
        contents["more.npy"] = contents[name]
    elif what == 3:
        contents[name] = contents[name][: int(rng.integers(len(contents[name]) + 1))]
    elif what == 4:
        contents[name] = contents[name] + b" " * int(rng.integers(1, 2000))
    else:
        changed = bytearray(contents[name])
        changed[int(rng.integers(len(changed)))] = int(rng.integers(256))
        contents[name] = bytes(changed)
    header = contents.get("header.json", b"")
    try:
        json.loads(header)["sha256"]
    except (ValueError, KeyError, TypeError):
        header = None
    write(path, contents, fresh=header is not None and isinstance(json.loads(header), dict))


def _places(value, found):
    items = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for key, item in items:
        found.append((value, key))
        _places(item, found)
    return found


def tree_changed(path, contents, rng):
    tree = json.loads(contents["model.json"])
    for _ in range(max(1, int(rng.integers(-3, 4)))):
        places = _places(tree, [])
        if not places:
            break
        holder, key = places[rng.integers(len(places))]
        what = rng.integers(7)
        if what <= 2:
            holder[key] = VALUES[rng.integers(len(VALUES))]
        elif what == 3:
            del holder[key]
        elif what == 4:
            other, where = places[rng.integers(len(places))]
            holder[key] = json.loads(json.dumps(other[where]))
        elif what == 5 and isinstance(holder, list):
            holder.insert(key, json.loads(json.dumps(holder[key])))
        elif isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
            holder[key] = type(holder[key])(holder[key] * [-1, 2, 1e3][rng.integers(3)] + rng.integers(-1, 2))
        elif isinstance(holder[key], str):
            at = int(rng.integers(len(holder[key]) + 1))
            holder[key] = holder[key][:at] + "xg(),:~+1e9 "[rng.integers(12)] + holder[key][at:]
    write(path, {**contents, "model.json": json.dumps(tree).encode()})


def arrays_changed(path, contents, rng):
    names = [name for name in contents if name.endswith(".npy")]
    for name in rng.choice(names, max(1, int(rng.integers(-2, 4)))):
        array = np.load(io.BytesIO(contents[name])).copy()
        flat = array.reshape(-1)
        if not flat.size:
            continue
        what = rng.integers(7)
        if what == 0:
            array = array[: int(rng.integers(len(array) + 1))]
        elif what == 1:
            array = np.concatenate([array, array[: int(rng.integers(1, len(array) + 1))]])
        elif what == 2:
            array = array.astype(["<f4", "<i8", "<i4", ">f8", "<u8", "?", "<f8"][rng.integers(7)])
        elif what == 3:
            array = array.reshape([(-1,), (1, -1), (-1, 1), array.shape[::-1]][rng.integers(4)])
        elif what == 4:
            array = array[rng.permutation(len(array))]
        else:
            some = rng.integers(flat.size, size=int(rng.integers(1, 5)))
            worst = [-1, 0, 1, 2**31 - 1, len(array), -(2**31)] if array.dtype.kind in "iu" else [
                0.0, -1.0, 1e300, -1e300, np.nan, np.inf, 1e-300]  # fmt: skip
            flat[some] = [worst[i] for i in rng.integers(len(worst), size=len(some))]
        contents[name] = as_member(array)
    write(path, contents)


CHANGES = (bytes_changed, members_changed, tree_changed, tree_changed, arrays_changed, arrays_changed)


def mutate(path, seed):
    """Change the saved model at a path in place."""
    rng = np.random.default_rng(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        CHANGES[seed % len(CHANGES)](path, members(path), rng)


# --- what is done with a file ---------------------------------------------------------------------


def use(path):
    """Load a model and ask it for everything; return what happened: ``"loaded"`` or ``"refused"``."""
    try:
        model = slm.load(path)
    except SparseLMMError:
        return "refused"
    asked = [
        lambda: str(model.summary(correlation=True)),
        lambda: model._repr_html_(),
        model.ranef,
        model.cov_params,
        lambda: (model.params, model.bse, model.tvalues, model.varcorr.to_frame(), repr(model), model.messages),
        lambda: model.predict(ROWS),
        lambda: model.predict(ROWS, se=True),
        lambda: model.predict(pd.concat([ROWS] * 40), se=True),
        lambda: model.predict(ROWS.assign(g=99), interval="prediction", allow_new_levels=True),
        lambda: model.predict(ROWS, re_form="~0", interval="prediction"),
    ]
    for ask in asked:
        with contextlib.suppress(SparseLMMError):
            ask()
    return "loaded"


def run(source, folder, first, last):
    """Try the changes first..last of a file; print each whose outcome is an error that is not ours, and a count."""
    path, counts = Path(folder) / "mutated.slmm", {"loaded": 0, "refused": 0, "foreign": 0}
    warnings.simplefilter("ignore")
    for seed in range(first, last):
        print("at", seed, file=sys.stderr, flush=True)  # names the culprit should the process die
        path.write_bytes(Path(source).read_bytes())
        mutate(path, seed)
        try:
            outcome = use(path)
        except Exception:  # what is foreign is found out here
            outcome = "foreign"
            print(f"--- change {seed}\n{traceback.format_exc()}")
        counts[outcome] += 1
    print(json.dumps(counts))


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
