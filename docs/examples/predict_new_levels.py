"""Predict for known and for new subjects, and in another process without the data."""

import pandas as pd

import sparselmm as slm

fit = slm.lmer("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
new = pd.DataFrame({"Days": [5, 5], "Subject": ["308", "somebody new"]})

print(fit.predict(new, allow_new_levels=True, interval="prediction").round(1))

try:
    fit.predict(new)
except slm.exceptions.DataError as error:
    print("refused:", error)

# a file without data and without code
fit.save("sleep.slmm", include="variances")
print(slm.load("sleep.slmm").predict(new, allow_new_levels=True, se=True).round(1))
