# Group-deletion influence by real refits: one lmer() without each group, with tight optimizer settings.
# Rscript influence.R  (writes influence.json beside it; lme4 1.1-31, R 4.2.2)
library(lme4)
library(jsonlite)
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10, maxfun = 1e5), check.conv.grad = "ignore")
one <- function(formula, data, group) {
  data[[group]] <- as.character(data[[group]])
  m <- lmer(formula, data, control = tight)
  levels <- sort(unique(data[[group]]))
  fits <- lapply(levels, function(l) lmer(formula, data[data[[group]] != l, ], control = tight))
  list(
    formula = paste(deparse(formula), collapse = ""), group = group, levels = levels,
    dfbeta = t(sapply(fits, function(f) fixef(f) - fixef(m), simplify = "matrix")),
    sigma = sapply(fits, function(f) sigma(f) - sigma(m)),
    theta = lapply(fits, function(f) getME(f, "theta") - getME(m, "theta")),
    theta_names = names(getME(m, "theta")),
    rstudent_first5 = unname(rstudent(m))[1:5]
  )
}
out <- list(
  meta = list(R = R.version.string, lme4 = as.character(packageVersion("lme4"))),
  sleepstudy = one(Reaction ~ Days + (Days | Subject), sleepstudy, "Subject"),
  Penicillin = one(diameter ~ 1 + (1 | plate) + (1 | sample), Penicillin, "plate")
)
write_json(out, "influence.json", digits = NA, auto_unbox = TRUE, pretty = TRUE)
