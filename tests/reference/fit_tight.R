# Shared by formula_cases.R and extra_models.R: fit one lmer model far more tightly than lmer's own default and
# describe it as a plain list. The criterion function comes from lme4's modular steps; the search over theta is ours:
# several starts and several optimizers, each polished, the lowest value kept.
suppressPackageStartupMessages({
  library(lme4)
  library(splines)
})

tight <- list(algorithm = "NLOPT_LN_BOBYQA", xtol_abs = 1e-10, ftol_abs = 1e-12, maxeval = 20000)

parse_model <- function(formula, data, REML, weights = NULL, offset = NULL, contrasts = NULL) {
  args <- list(formula = as.formula(formula), data = data, REML = REML)
  if (!is.null(weights)) args$weights <- data[[weights]]
  if (!is.null(offset)) args$offset <- data[[offset]]
  if (!is.null(contrasts)) args$contrasts <- contrasts
  suppressMessages(do.call(lFormula, args))
}

search_theta <- function(devfun, start, lower, thorough = TRUE) {
  upper <- rep(Inf, length(start))
  starts <- list(start)
  if (thorough) {
    set.seed(1)
    random <- lapply(1:8, function(i) ifelse(lower == 0, 0.6 * abs(rnorm(length(start))), 0.4 * rnorm(length(start))))
    starts <- c(starts, list(0.6 * start + 0.15, 0.2 * start + 0.02, 3 * start - 0.1), random)
  }
  best <- list(par = start, fval = devfun(start), name = "start")
  keep <- function(par, name) {
    par <- pmax(par, lower)
    value <- devfun(par)
    if (is.finite(value) && value < best$fval) best <<- list(par = par, fval = value, name = name)
  }
  for (s in starts) keep(nloptwrap(pmax(s, lower), devfun, lower, upper, control = tight)$par, "nloptwrap")
  for (round in seq_len(if (thorough) 2 else 1)) {
    fine <- list(rhobeg = 0.02, rhoend = 1e-9, maxfun = 20000)
    keep(minqa::bobyqa(best$par, devfun, lower, upper, control = fine)$par, "minqa")
    keep(nlminb(best$par, devfun, lower = lower, control = list(rel.tol = 1e-15, x.tol = 1e-12, eval.max = 2000))$par,
         "nlminb")
    if (thorough) {
      keep(Nelder_Mead(devfun, best$par, lower, upper,
                       control = list(maxfun = 20000, FtolAbs = 1e-12, XtolRel = 1e-14))$par, "Nelder_Mead")
    }
    keep(nloptwrap(best$par, devfun, lower, upper, control = tight)$par, "nloptwrap")
  }
  # the boundary itself: coordinates that are nearly zero are tried at zero
  small <- abs(best$par) < 1e-4
  if (any(small)) keep(ifelse(small, 0, best$par), "boundary")
  best
}

# Newton steps in the coordinates away from their bounds: derivative-free searches stop when the criterion no longer
# changes, which leaves theta with half the digits; a step is kept when it makes the gradient smaller.
polish <- function(devfun, best, lower) {
  free <- best$par - lower > 1e-3
  best$gradient <- 0
  if (!any(free)) return(best)
  restricted <- function(v) devfun(replace(best$par, free, v))
  g <- numDeriv::grad(restricted, best$par[free])
  for (step in 1:3) {
    H <- numDeriv::hessian(restricted, best$par[free])
    delta <- tryCatch(solve(H, g), error = function(e) NULL)
    if (is.null(delta) || max(abs(delta)) > 1e-2) break
    v <- best$par[free] - delta
    if (any(v < lower[free])) break
    g_new <- numDeriv::grad(restricted, v)
    if (max(abs(g_new)) >= max(abs(g)) || restricted(v) > best$fval + 1e-8) break
    best$par[free] <- v
    best$fval <- restricted(v)
    g <- g_new
  }
  best$gradient <- max(abs(g))
  best
}

describe_ranef <- function(mod) {
  lapply(names(ranef(mod, condVar = FALSE)), function(g) {
    r <- ranef(mod, condVar = FALSE)[[g]]
    n <- min(5, nrow(r))
    list(group = g, n_levels = nrow(r), terms = as.list(colnames(r)), levels = as.list(rownames(r)[seq_len(n)]),
         values = unname(as.matrix(r[seq_len(n), , drop = FALSE])), sumsq = as.list(unname(colSums(r^2))))
  })
}

describe_fit <- function(mod, parsed) {
  n10 <- seq_len(min(10, nobs(mod)))
  vc <- as.data.frame(VarCorr(mod))
  pearson <- residuals(mod, type = "pearson")
  list(
    nobs = nobs(mod), sigma = sigma(mod), beta = as.list(fixef(mod)),
    se = as.list(setNames(sqrt(diag(as.matrix(vcov(mod)))), names(fixef(mod)))),
    varcorr = vc, ngrps = as.list(ngrps(mod)), logLik = as.numeric(logLik(mod)), npar = attr(logLik(mod), "df"),
    AIC = AIC(logLik(mod)), BIC = BIC(logLik(mod)), df_residual = df.residual(mod), ranef = describe_ranef(mod),
    fitted10 = as.list(unname(fitted(mod)[n10])), resid10 = as.list(unname(residuals(mod)[n10])),
    resid_pearson10 = as.list(unname(pearson[n10])),
    resid_scaled10 = as.list(unname(pearson[n10] / sigma(mod))),
    fitted_sumsq = sum(fitted(mod)^2), resid_sumsq = sum(residuals(mod)^2),
    row_names10 = as.list(rownames(parsed$fr)[n10]), isSingular = isSingular(mod, tol = 1e-4)
  )
}

# One record: sizes, names, the criterion at two fixed theta and everything at the best theta found.
tight_record <- function(formula, data, REML, weights = NULL, offset = NULL, contrasts = NULL, thorough = TRUE) {
  parsed <- parse_model(formula, data, REML, weights, offset, contrasts)
  devfun <- do.call(mkLmerDevfun, parsed)
  re <- parsed$reTrms
  start <- re$theta
  fixed <- list(start, 0.6 * start + 0.15)
  at <- lapply(fixed, function(th) list(theta = as.list(th), value = devfun(th)))
  best <- polish(devfun, search_theta(devfun, start, re$lower, thorough), re$lower)
  devfun(best$par)
  opt <- list(par = best$par, fval = best$fval, conv = 0, message = best$name, feval = 0)
  mod <- suppressMessages(suppressWarnings(mkMerMod(environment(devfun), opt, re, fr = parsed$fr)))
  q <- diff(re$Gp)
  k <- lengths(re$cnms)
  group <- names(re$cnms)
  terms <- lapply(seq_along(q), function(i) {
    list(group = group[i], coefs = as.list(re$cnms[[i]]), n_levels = q[i] / k[i])
  })
  X <- parsed$X
  head <- list(
    REML = REML, weights = weights, offset = offset, contrasts = if (is.null(contrasts)) NULL else as.list(contrasts),
    p = ncol(X), q = sum(q), n_theta = length(start), terms = terms, theta_names = as.list(names(getME(mod, "theta"))),
    x_columns = as.list(colnames(X)), dropped_columns = as.list(names(attr(X, "col.dropped"))),
    criterion_kind = if (REML) "REMLcrit" else "deviance", criterion = best$fval, theta = as.list(best$par),
    found_by = best$name, gradient = best$gradient, criterion_at = at
  )
  c(head, describe_fit(mod, parsed))
}

versions <- function() {
  package <- function(p) as.character(packageVersion(p))
  list(R = R.version.string, lme4 = package("lme4"), Matrix = package("Matrix"), nloptr = package("nloptr"),
       minqa = package("minqa"), numDeriv = package("numDeriv"), jsonlite = package("jsonlite"),
       mlmRev = package("mlmRev"), nlme = package("nlme"))
}

write_records <- function(records, path) {
  json <- jsonlite::toJSON(list(meta = versions(), models = records), auto_unbox = TRUE, digits = NA, null = "null",
                           na = "null", dataframe = "columns")
  connection <- if (grepl("gz$", path)) gzfile(path, "wb") else file(path, "wb")
  on.exit(close(connection))
  writeLines(json, connection)
}
