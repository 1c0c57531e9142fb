# Tests, F tables, marginal means and comparisons beyond those of lme4.json: unbalanced data, sum and Helmert
# contrasts, no intercept, empty cells, polynomials, weights and offsets.
# Run from this folder:  Rscript inference_cases.R     Reads extra_models.csv, writes inference_cases.json.gz.
suppressPackageStartupMessages({library(lmerTest); library(pbkrtest); library(emmeans); library(jsonlite)})
emm_options(msg.interaction = FALSE, lmerTest.limit = 1e5, pbkrtest.limit = 1e5)

d <- read.csv("extra_models.csv", stringsAsFactors = TRUE)[1:400, ]
i <- seq_len(nrow(d)) - 1
d$w5 <- 1 + (i %% 5) / 4
d$o7 <- (i %% 7) / 7
d$g <- factor(ifelse(d$noise > 0.3, "hi", "lo"))
d$d01 <- as.numeric(d$year > 2008)
d <- droplevels(d)
control <- lmerControl(optimizer = "nloptwrap", optCtrl = list(xtol_rel = 1e-12, xtol_abs = 1e-12, ftol_rel = 1e-15, maxeval = 1e5),
                       calc.derivs = FALSE)

case <- function(id, formula, contrasts = NULL, weights = NULL, means = list(), reml = TRUE, kr = TRUE,
                 ranova = FALSE, drop1 = FALSE)
  list(id = id, formula = formula, contrasts = contrasts, weights = weights, means = means, REML = reml, kr = kr,
       ranova = ranova, drop1 = drop1)
cases <- list(
  case("sum", "y ~ u * x + v + (1 | a) + (1 | b)", contrasts = list(u = "contr.sum", v = "contr.sum"), drop1 = TRUE,
       means = list(list(specs = "u"), list(specs = "u", by = "v", adjust = "holm"), list(specs = "u", at = list(x = 1), adjust = "tukey"))),
  case("helmert", "y ~ u * g + x + (1 | b)", contrasts = list(u = "contr.helmert", g = "contr.helmert"),
       means = list(list(specs = c("u", "g"), adjust = "bonferroni"), list(specs = "g", by = "u", adjust = "none"))),
  case("three", "y ~ u * g * x + t + (1 | a)", drop1 = TRUE, means = list(list(specs = "u", by = "g", adjust = "sidak"))),
  case("mixed_coding", "y ~ u * g + v + (1 | a)", contrasts = list(u = "contr.sum")),
  case("no_intercept", "y ~ 0 + u + v + x + (1 | a)", means = list(list(specs = "v", adjust = "fdr"))),
  case("empty_cells", "y ~ u * v + (1 | a)", means = list(list(specs = c("u", "v")), list(specs = "u"))),
  case("slopes", "y ~ x + t + u + (x + t | a)", kr = FALSE, ranova = TRUE, drop1 = TRUE),
  case("double_bar", "y ~ x + (x || a) + (1 | b)", ranova = TRUE, reml = FALSE, kr = FALSE),
  case("two_values", "y ~ u + d01 + x + (1 | a)", means = list(list(specs = "u", adjust = "tukey"), list(specs = "d01"))),
  case("weights", "y ~ u + x + offset(o7) + (1 | a) + (1 | c)", weights = "w5", kr = FALSE,
       means = list(list(specs = "u", adjust = "none"))),
  case("transformed", "log(y + 20) ~ poly(x, 2) * u + log(t + 1) + (1 | b)", means = list(list(specs = "u", adjust = "none")))
)

columns <- function(t) c(list(term = rownames(t)), as.list(as.data.frame(t)))

contest_rows <- function(m) {
  p <- length(fixef(m))
  rbind(seq_len(p) / p, (-1)^seq_len(p), c(rep(0, p - 1), 2))[seq_len(min(3, p)), , drop = FALSE]
}

means_of <- function(m, request, mode) {
  arguments <- list(object = m, specs = request$specs, lmer.df = mode)
  if (!is.null(request$by)) arguments$by <- request$by
  if (!is.null(request$at)) arguments$at <- request$at
  grid <- do.call(emmeans, arguments)
  adjust <- if (is.null(request$adjust)) "none" else request$adjust
  tests <- as.data.frame(summary(pairs(grid), infer = c(TRUE, TRUE), adjust = adjust))
  list(means = as.list(as.data.frame(grid)), pairs = as.list(tests))
}

describe <- function(k) {
  arguments <- list(formula = as.formula(k$formula), data = d, REML = k$REML, control = control)
  if (!is.null(k$contrasts)) arguments$contrasts <- k$contrasts
  if (!is.null(k$weights)) arguments$weights <- d[[k$weights]]
  m <- do.call(lmerTest::lmer, arguments)
  modes <- if (k$kr) c("Satterthwaite", "Kenward-Roger") else "Satterthwaite"
  L <- contest_rows(m)
  out <- list(id = k$id, formula = k$formula, contrasts = k$contrasts, weights = k$weights, REML = k$REML, nobs = nobs(m),
              theta = getME(m, "theta"), theta_names = names(getME(m, "theta")), criterion = -2 * as.numeric(logLik(m)),
              L = L, means = k$means)
  for (mode in modes) {
    one <- do.call(rbind, lapply(seq_len(nrow(L)), function(i) contest(m, L[i, ], joint = FALSE, ddf = mode, rhs = 0.1)))
    result <- list(contest1D = as.list(as.data.frame(one)), contestMD = as.list(contest(m, L, ddf = mode, rhs = rep(0.1, nrow(L)))))
    for (type in c("I", "II", "III")) result[[type]] <- columns(anova(m, type = type, ddf = mode))
    result$emmeans <- lapply(k$means, function(r) means_of(m, r, tolower(mode)))
    out[[tolower(mode)]] <- result
  }
  if (k$ranova) {
    r <- as.data.frame(ranova(m))
    out$ranova <- c(list(term = rownames(r)), as.list(r))
  }
  if (k$drop1) {
    r <- as.data.frame(lme4:::drop1.merMod(as(m, "lmerMod"), test = "Chisq"))
    out$drop1 <- c(list(term = rownames(r)), as.list(r))
  }
  out
}

found <- lapply(cases, function(k) { message(k$id); describe(k) })
names(found) <- vapply(found, function(r) r$id, "")
versions <- vapply(c("lme4", "lmerTest", "pbkrtest", "emmeans"), function(p) as.character(packageVersion(p)), "")
json <- toJSON(list(meta = c(list(R = R.version.string), as.list(versions)), models = found), digits = NA, auto_unbox = TRUE,
               null = "null", na = "null", matrix = "rowmajor")
file <- gzfile("inference_cases.json.gz", "w")
writeLines(json, file)
close(file)
