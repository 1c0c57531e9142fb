"""Fit one model, look at it, keep the numbers."""

import sparselmm as slm

data = slm.load_dataset("sleepstudy")
fit = slm.lmer("Reaction ~ Days + (Days | Subject)", data)

print(fit.summary())
print(fit.conf_int().round(2))
print(fit.varcorr)
print(fit.ranef()["Subject"].head(3).round(2))

fit.coef_table().to_csv("coefficients.csv")
