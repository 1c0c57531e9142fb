# Fits one model with lme4 and writes its numbers as JSON.
# Run: Rscript SCRIPT.R [OUTPUT.json]

suppressPackageStartupMessages({
  library(lme4)
  library(splines)
})

# all factors get treatment contrasts, ordered ones too
options(contrasts = c("contr.treatment", "contr.treatment"))

data <- read.csv(text = c(
"\"diameter\",\"plate\",\"sample\"",
"\"27\",\"a\",\"A\"",
"\"23\",\"a\",\"B\"",
"\"26\",\"a\",\"C\"",
"\"23\",\"a\",\"D\"",
"\"23\",\"a\",\"E\"",
"\"21\",\"a\",\"F\"",
"\"27\",\"b\",\"A\"",
"\"23\",\"b\",\"B\"",
"\"26\",\"b\",\"C\"",
"\"23\",\"b\",\"D\"",
"\"23\",\"b\",\"E\"",
"\"21\",\"b\",\"F\"",
"\"25\",\"c\",\"A\"",
"\"21\",\"c\",\"B\"",
"\"25\",\"c\",\"C\"",
"\"24\",\"c\",\"D\"",
"\"24\",\"c\",\"E\"",
"\"20\",\"c\",\"F\"",
"\"26\",\"d\",\"A\"",
"\"23\",\"d\",\"B\"",
"\"25\",\"d\",\"C\"",
"\"23\",\"d\",\"D\"",
"\"23\",\"d\",\"E\"",
"\"20\",\"d\",\"F\"",
"\"25\",\"e\",\"A\"",
"\"22\",\"e\",\"B\"",
"\"26\",\"e\",\"C\"",
"\"22\",\"e\",\"D\"",
"\"23\",\"e\",\"E\"",
"\"20\",\"e\",\"F\"",
"\"24\",\"f\",\"A\"",
"\"22\",\"f\",\"B\"",
"\"25\",\"f\",\"C\"",
"\"23\",\"f\",\"D\"",
"\"22\",\"f\",\"E\"",
"\"19\",\"f\",\"F\"",
"\"24\",\"g\",\"A\"",
"\"20\",\"g\",\"B\"",
"\"23\",\"g\",\"C\"",
"\"21\",\"g\",\"D\"",
"\"22\",\"g\",\"E\"",
"\"19\",\"g\",\"F\"",
"\"26\",\"h\",\"A\"",
"\"22\",\"h\",\"B\"",
"\"26\",\"h\",\"C\"",
"\"24\",\"h\",\"D\"",
"\"24\",\"h\",\"E\"",
"\"21\",\"h\",\"F\"",
"\"24\",\"i\",\"A\"",
"\"21\",\"i\",\"B\"",
"\"24\",\"i\",\"C\"",
"\"22\",\"i\",\"D\"",
"\"22\",\"i\",\"E\"",
"\"20\",\"i\",\"F\"",
"\"24\",\"j\",\"A\"",
"\"21\",\"j\",\"B\"",
"\"24\",\"j\",\"C\"",
"\"23\",\"j\",\"D\"",
"\"22\",\"j\",\"E\"",
"\"19\",\"j\",\"F\"",
"\"26\",\"k\",\"A\"",
"\"23\",\"k\",\"B\"",
"\"26\",\"k\",\"C\"",
"\"24\",\"k\",\"D\"",
"\"24\",\"k\",\"E\"",
"\"21\",\"k\",\"F\"",
"\"25\",\"l\",\"A\"",
"\"22\",\"l\",\"B\"",
"\"26\",\"l\",\"C\"",
"\"24\",\"l\",\"D\"",
"\"24\",\"l\",\"E\"",
"\"20\",\"l\",\"F\"",
"\"26\",\"m\",\"A\"",
"\"24\",\"m\",\"B\"",
"\"26\",\"m\",\"C\"",
"\"24\",\"m\",\"D\"",
"\"25\",\"m\",\"E\"",
"\"22\",\"m\",\"F\"",
"\"26\",\"n\",\"A\"",
"\"23\",\"n\",\"B\"",
"\"26\",\"n\",\"C\"",
"\"23\",\"n\",\"D\"",
"\"23\",\"n\",\"E\"",
"\"20\",\"n\",\"F\"",
"\"26\",\"o\",\"A\"",
"\"23\",\"o\",\"B\"",
"\"25\",\"o\",\"C\"",
"\"24\",\"o\",\"D\"",
"\"24\",\"o\",\"E\"",
"\"22\",\"o\",\"F\"",
"\"25\",\"p\",\"A\"",
"\"22\",\"p\",\"B\"",
"\"25\",\"p\",\"C\"",
"\"23\",\"p\",\"D\"",
"\"23\",\"p\",\"E\"",
"\"20\",\"p\",\"F\"",
"\"25\",\"q\",\"A\"",
"\"21\",\"q\",\"B\"",
"\"24\",\"q\",\"C\"",
"\"23\",\"q\",\"D\"",
"\"23\",\"q\",\"E\"",
"\"20\",\"q\",\"F\"",
"\"25\",\"r\",\"A\"",
"\"22\",\"r\",\"B\"",
"\"24\",\"r\",\"C\"",
"\"23\",\"r\",\"D\"",
"\"23\",\"r\",\"E\"",
"\"19\",\"r\",\"F\"",
"\"24\",\"s\",\"A\"",
"\"21\",\"s\",\"B\"",
"\"23\",\"s\",\"C\"",
"\"21\",\"s\",\"D\"",
"\"21\",\"s\",\"E\"",
"\"19\",\"s\",\"F\"",
"\"26\",\"t\",\"A\"",
"\"23\",\"t\",\"B\"",
"\"26\",\"t\",\"C\"",
"\"24\",\"t\",\"D\"",
"\"24\",\"t\",\"E\"",
"\"21\",\"t\",\"F\"",
"\"25\",\"u\",\"A\"",
"\"21\",\"u\",\"B\"",
"\"24\",\"u\",\"C\"",
"\"22\",\"u\",\"D\"",
"\"22\",\"u\",\"E\"",
"\"18\",\"u\",\"F\"",
"\"25\",\"v\",\"A\"",
"\"22\",\"v\",\"B\"",
"\"25\",\"v\",\"C\"",
"\"22\",\"v\",\"D\"",
"\"22\",\"v\",\"E\"",
"\"20\",\"v\",\"F\"",
"\"24\",\"w\",\"A\"",
"\"21\",\"w\",\"B\"",
"\"24\",\"w\",\"C\"",
"\"22\",\"w\",\"D\"",
"\"24\",\"w\",\"E\"",
"\"19\",\"w\",\"F\"",
"\"24\",\"x\",\"A\"",
"\"21\",\"x\",\"B\"",
"\"24\",\"x\",\"C\"",
"\"22\",\"x\",\"D\"",
"\"21\",\"x\",\"E\"",
"\"18\",\"x\",\"F\""
), colClasses = "character",
                 na.strings = "NA", check.names = FALSE)
data[["diameter"]] <- as.numeric(data[["diameter"]])
data[["plate"]] <- factor(data[["plate"]], levels = c("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u", "v", "w", "x"))
data[["sample"]] <- factor(data[["sample"]], levels = c("A", "B", "C", "D", "E", "F"))

settings <- list(xtol_abs = 1e-10, xtol_rel = 0, ftol_abs = 1e-12, ftol_rel = 0, maxeval = 1e5)
control <- lmerControl(optimizer = "nloptwrap", optCtrl = settings, calc.derivs = FALSE)
fit_tightly <- function() {
  first <- lmer(diameter ~ 1 + (1 | plate) + (1 | sample), data = data, REML = FALSE, control = control)
  # started again from its own end, so that an early stop shows
  again <- lmer(diameter ~ 1 + (1 | plate) + (1 | sample), data = data, REML = FALSE, control = control, start = getME(first, "theta"))
  value <- function(fit) deviance(fit, REML = isREML(fit))
  if (value(again) < value(first)) again else first
}
fit_once <- function() fit_tightly()
times <- system.time(fit <- fit_once())[["elapsed"]]
while (length(times) <= 3 && sum(times) <= 5) {
  times <- c(times, system.time(fit_once())[["elapsed"]])
}
seconds <- min(times)

text <- function(x) {
  x <- gsub("\\", "\\\\", enc2utf8(as.character(x)), fixed = TRUE)
  x <- gsub("\"", "\\\"", x, fixed = TRUE)
  x <- gsub("\n", "\\n", x, fixed = TRUE)
  ifelse(is.na(x), "null", paste0("\"", x, "\""))
}
number <- function(x) ifelse(is.finite(x), sprintf("%.17g", x), "null")
list_of <- function(x) paste0("[", paste(x, collapse = ", "), "]")
object <- function(...) {
  parts <- list(...)
  paste0("{", paste0(text(names(parts)), ": ", unlist(parts), collapse = ",\n "), "}")
}

model_formula <- "diameter ~ 1 + (1 | plate) + (1 | sample)"
model_weights <- NA
model_offset <- NA
data_sha256 <- "c0cbe682501be2cc6243a8d045a2be07add93c71847456319f382a90cdc6de7f"
tight <- TRUE

coefficients <- fixef(fit)
standard_errors <- sqrt(diag(as.matrix(vcov(fit))))
components <- as.data.frame(VarCorr(fit))
levels_per_group <- vapply(getME(fit, "flist"), nlevels, 1L)
theta <- getME(fit, "theta")
notes <- unique(c(unlist(fit@optinfo$conv$lme4$messages), if (fit@optinfo$conv$opt != 0) fit@optinfo$message))
result <- object(
  software = text("lme4"),
  version = text(as.character(packageVersion("lme4"))),
  r_version = text(R.version.string),
  formula = text(model_formula),
  weights = text(model_weights),
  offset = text(model_offset),
  data_sha256 = text(data_sha256),
  tight = tolower(as.character(tight)),
  reml = tolower(as.character(isREML(fit))),
  nobs = number(nobs(fit)),
  df_resid = number(df.residual(fit)),
  criterion = number(if (isREML(fit)) REMLcrit(fit) else deviance(fit)),
  llf = number(as.numeric(logLik(fit))),
  aic = number(AIC(fit)),
  bic = number(BIC(fit)),
  sigma = number(sigma(fit)),
  params = object(names = list_of(text(names(coefficients))), values = list_of(number(coefficients)),
                  bse = list_of(number(standard_errors))),
  varcorr = object(grp = list_of(text(components$grp)), var1 = list_of(text(components$var1)),
                   var2 = list_of(text(components$var2)), vcov = list_of(number(components$vcov)),
                   sdcor = list_of(number(components$sdcor))),
  ngroups = object(names = list_of(text(names(levels_per_group))), values = list_of(number(levels_per_group))),
  theta = object(names = list_of(text(names(theta))), values = list_of(number(theta))),
  is_singular = tolower(as.character(isSingular(fit))),
  messages = list_of(text(notes)),
  seconds = number(seconds)
)

target <- c(commandArgs(trailingOnly = TRUE), "penicillin_ml.json")[1]
writeLines(result, if (nzchar(target)) file(target, encoding = "UTF-8") else stdout(), useBytes = TRUE)
