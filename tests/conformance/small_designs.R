# Lowest criterion that lme4 finds on each design of a folder, from three starts.
# usage: Rscript small_designs.R FOLDER; reads FOLDER/manifest.tsv (name, formula, reml, weighted) and FOLDER/NAME.csv,
# writes FOLDER/lme4.tsv (name, criterion; NA where lme4 refuses the model)
suppressPackageStartupMessages(library(lme4))
folder <- commandArgs(trailingOnly = TRUE)[1]
manifest <- read.delim(file.path(folder, "manifest.tsv"), quote = "", stringsAsFactors = FALSE)
none <- lmerControl(
  check.nobs.vs.rankZ = "ignore", check.nobs.vs.nlev = "ignore", check.nlev.gtr.1 = "ignore",
  check.nobs.vs.nRE = "ignore", check.rankX = "silent.drop.cols", check.scaleX = "ignore"
)

lowest <- function(name, formula, reml, weighted) {
  data <- read.csv(file.path(folder, paste0(name, ".csv")), colClasses = c(f = "factor", h = "factor"))
  parts <- list(formula = as.formula(formula), data = data, REML = reml, control = none)
  if (weighted) parts$weights <- data$w
  parsed <- do.call(lFormula, parts)
  devfun <- do.call(mkLmerDevfun, parsed)
  lower <- environment(devfun)$lower
  first <- parsed$reTrms$theta
  set.seed(1)
  starts <- list(first, 0.2 * first, ifelse(lower == 0, abs(rnorm(length(first))), rnorm(length(first)) / 2))
  best <- NA
  for (start in starts) {
    value <- tryCatch({
      found <- nloptwrap(start, devfun, lower, rep(Inf, length(first)),
        control = list(ftol_abs = 1e-10, xtol_abs = 1e-8, maxeval = 20000))
      again <- nloptwrap(found$par, devfun, lower, rep(Inf, length(first)),
        control = list(ftol_abs = 1e-10, xtol_abs = 1e-8, maxeval = 20000))
      min(found$fval, again$fval)
    }, error = function(e) NA)
    best <- min(best, value, na.rm = TRUE)
  }
  if (is.finite(best)) best else NA
}

values <- mapply(function(...) tryCatch(suppressWarnings(suppressMessages(lowest(...))), error = function(e) NA),
  manifest$name, manifest$formula, manifest$reml, manifest$weighted)
out <- data.frame(name = manifest$name, criterion = sprintf("%.12f", values))
write.table(out, file.path(folder, "lme4.tsv"), sep = "\t", quote = FALSE, row.names = FALSE)
