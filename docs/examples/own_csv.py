"""From a CSV file to an answer: names with spaces, missing values, numbers that came as text."""

from pathlib import Path

import numpy as np
import pandas as pd

import sparselmm as slm

# Your file takes the place of this one.
rng = np.random.default_rng(1)
school = np.repeat(np.arange(20), 15)
hours = rng.uniform(0, 10, 300).round(1)
score = 50 + 2 * hours + rng.normal(0, 4, 20)[school] + rng.normal(0, 8, 300)
table = pd.DataFrame({"School ID": school + 101, "hours/week": hours, "test score": score.round(1)})
table["test score"] = table["test score"].astype(str)
table.loc[[3, 77], "test score"] = "absent"
table.to_csv("scores.csv", index=False)

# Say which entries stand for a missing value, and the column is numeric.
data = pd.read_csv("scores.csv", na_values=["absent"])
print(data.dtypes)

# Names that are not Python names go in backticks. Numbers after the bar are labels.
fit = slm.lmer("`test score` ~ `hours/week` + (1 | `School ID`)", data)
print(fit.summary())

new = pd.DataFrame({"hours/week": [0.0, 5.0], "School ID": [101, 101]})
print(fit.predict(new, se=True).round(2))

Path("scores.txt").write_text(str(fit.summary()), encoding="utf-8")
