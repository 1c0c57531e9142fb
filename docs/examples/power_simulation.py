"""How many patients does a trial need? Simulate the design, fit each response, count."""

import warnings

import pandas as pd

import sparselmm as slm

FORMULA = "y ~ dose + (1 | patient)"
TRUTH = {"theta": {"patient.Intercept": 0.8}, "beta": {"Intercept": 10.0, "dose": 0.2}, "sigma": 1.0}

warnings.simplefilter("ignore", slm.exceptions.SingularFitWarning)
for patients in (10, 20, 40):
    rows = [(patient, dose) for patient in range(patients) for dose in (0, 1, 2, 4)]
    design = pd.DataFrame(rows, columns=["patient", "dose"])
    responses = slm.simulate(FORMULA, design, **TRUTH, nsim=200, seed=3)
    first = slm.lmer(FORMULA, design.assign(y=responses["sim_1"]))
    p_values = [first.refit(responses[name]).pvalues["dose"] for name in responses]
    print(f"{patients} patients: power {sum(p < 0.05 for p in p_values) / len(p_values):.2f}")
