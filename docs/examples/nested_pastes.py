"""Casks within batches: labels that restart in every batch, and where the variance is."""

import sparselmm as slm

pastes = slm.load_dataset("pastes")

# before the fit: what the design can tell
print(slm.diagnose("strength ~ 1 + (1 | batch) + (1 | cask)", pastes))

fit = slm.lmer("strength ~ 1 + (1 | batch/cask)", pastes)
print(fit.varcorr)
print(fit.ranova().round(4).to_string())
print(fit.conf_int(method="profile").round(3))
