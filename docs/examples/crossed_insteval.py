"""73,421 ratings of lecturers by students: crossed factors with thousands of levels."""

import sparselmm as slm

ratings = slm.load_dataset("insteval")
fit = slm.lmer("y ~ service + (1 | s) + (1 | d) + (1 | dept)", ratings)

print(fit.summary())
print(fit.icc(by_term=True).round(3))

# the lecturers with the best ratings, given who rated them
lecturers = fit.ranef_table().query("grp == 'd'").sort_values("estimate", ascending=False)
print(lecturers.head(5).round(2))
