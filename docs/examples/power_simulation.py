"""How many patients does a trial need? Simulate the design, fit each response, count."""

import warnings

import pandas as pd

import sparselmm as slm

FORMULA = "y ~ dose + (1 | patient)"
TRUTH = {"theta": {"patient.Intercept": 0.8}, "beta": {"Intercept": 10.0, "dose": 0.2}, "sigma": 1.0}

warnings.simplefilter("ignore", slm.exceptions.SingularFitWarning)
for patients in (10, 20, 40):
    design = pd.DataFrame([(p, d) for p in range(patients) for d in (0, 1, 2, 4)], columns=["patient", "dose"])
    responses = slm.simulate(FORMULA, design, **TRUTH, nsim=200, seed=3)
    first = slm.lmer(FORMULA, design.assign(y=responses["sim_1"]))
    found = [first.refit(responses[name]).coef_table().loc["dose", "p_value"] < 0.05 for name in responses]
    print(f"{patients} patients: power {sum(found) / len(found):.2f}")
