"""The models of statsmodels' mixedlm, stated in the same way, and the same as one formula."""

import sparselmm as slm

pigs = slm.load_dataset("dietox")

# smf.mixedlm("Weight ~ Time", pigs, groups=pigs["Pig"], re_formula="~Time").fit()
result = slm.mixedlm("Weight ~ Time", pigs, groups=pigs["Pig"], re_formula="~Time").fit()
print(result.summary())
print(result.random_effects["4601"])

# pigs within litters as a variance component
litters = {"groups": "Litter", "re_formula": "1", "vc_formula": {"pig": "0 + C(Pig)"}}
nested = slm.mixedlm("Weight ~ Time", pigs, **litters)
print(nested.lmer_formula)

# with small samples: degrees of freedom, which statsmodels does not have
print(nested.fit().lmm.coef_table("kenward-roger").round(3).T)
