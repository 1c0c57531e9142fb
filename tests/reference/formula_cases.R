# Reference results for the formula grammar: every spelling below is given to lme4 on one simulated data set.
# Run from this folder:  Rscript formula_cases.R
# Writes formula_cases.csv (the data) and formula_cases.json (one record per spelling and criterion).
source("fit_tight.R")

make_data <- function() {
  set.seed(20240611)
  d <- expand.grid(rep = 1:2, h = letters[1:8], g = sprintf("g%02d", 1:12), stringsAsFactors = TRUE)
  n <- nrow(d)
  d <- d[, c("g", "h")]
  d$f <- factor(sample(c("a", "b", "c"), n, replace = TRUE))
  d$f2 <- factor(sample(c("u", "v"), n, replace = TRUE))
  d$x <- round(rnorm(n), 3)
  d$z <- round(rexp(n) + 0.2, 3)
  bg <- matrix(rnorm(24), 12) %*% matrix(c(0.8, 0, 0.3, 0.5), 2)
  bh <- 0.6 * rnorm(8)
  bgf <- matrix(0.4 * rnorm(36), 12)
  eta <- 1 + 0.7 * d$x + 0.4 * log(d$z) + c(0, 0.5, -0.3)[d$f] + bg[d$g, 1] + bg[d$g, 2] * d$x + bh[d$h] +
    bgf[cbind(as.integer(d$g), as.integer(d$f))] + 0.5 * rnorm(96)[as.integer(interaction(d$g, d$h))]
  d$y <- round(eta + rnorm(n), 4)
  d$num <- as.integer(d$g) * 3
  d$chr <- paste0("k", as.character(d$h))
  d$lg <- d$f2 == "u"
  d$s <- as.integer(d$h) + 10
  d$gu <- factor(as.character(d$g), levels = c("aa", levels(d$g), "zz"))
  d$xna <- replace(d$x, 17, NA)
  d$gna <- replace(as.character(d$g), c(3, 100), NA)
  d$w <- round(runif(n, 0.5, 3), 2)
  d$wna <- replace(d$w, seq(5, 180, by = 25), NA)
  d$wzero <- replace(d$w, c(8, 60, 61), 0)
  d$wneg <- replace(d$w, 12, -1)
  d$off <- round(rnorm(n), 3)
  d$one <- "only"
  d$obs <- seq_len(n)
  d$yconst <- 3
  d[["my x"]] <- d$x + d$z
  d
}

case <- function(id, formula, ...) list(id = id, formula = formula, ...)
# criterion_only: the random effect is also a fixed effect, so theta is not determined and only criteria are comparable.
# kind: "fit" (default), "error" (R refuses), "refuse" (R accepts, the package must not), "unsupported" (not in this
# version). r_formula: what R is given when its spelling must differ; columns: keep only these; drop_zero: R gets the
# rows with positive weight.
cases <- list(
  case("01", "y ~ x + (1|g)"),
  case("02a", "y ~ x + (x|g)"),
  case("02b", "y ~ x + (1 + x|g)"),
  case("03a", "y ~ x + (x||g)"),
  case("03b", "y ~ x + (1|g) + (0 + x|g)"),
  case("03c", "y ~ x + (1|g) + (x - 1|g)"),
  case("04", "y ~ x + (f||g)"),
  case("05a", "y ~ x + (0 + f||g)"),
  case("05b", "y ~ x + (0 + f|g)"),
  case("06", "y ~ x + (x*f2||g)"),
  case("07", "y ~ f + (f|g)"),
  case("08", "y ~ x + (0 + f|g)"),
  case("09", "y ~ x + (1|g/h)"),
  case("10", "y ~ x + (1|g:h)"),
  case("11a", "y ~ x + (1|g*h)", r_formula = "y ~ x + (1|g) + (1|h) + (1|g:h)"),
  case("11b", "y ~ x + (1|g) + (1|h) + (1|g:h)"),
  case("12a", "y ~ x + (1|g+h)", r_formula = "y ~ x + (1|g) + (1|h)"),
  case("12b", "y ~ x + (1|g) + (1|h)"),
  case("13a", "y ~ x + (1|g %in% h)", r_formula = "y ~ x + (1|g:h)"),
  case("14", "y ~ x + (x|g/h)", kind = "error"),
  case("15", "y ~ x + (1|g) + (1|g)", kind = "refuse"),
  case("16", "y ~ 0 + (1|g)"),
  case("17a", "y ~ x - 1 + (1|g)"),
  case("17b", "y ~ 0 + x + (1|g)"),
  case("17c", "y ~ x + 0 + (1|g)"),
  case("18a", "y ~ f - 1 + (1|g)"),
  case("18b", "y ~ 0 + f + (1|g)"),
  case("19", "y ~ x*f + (1|g)"),
  case("20", "y ~ x:f + (1|g)"),
  case("21", "y ~ f:f2 + (1|g)"),
  case("22", "y ~ f2/x + (1|g)"),
  case("23", "y ~ (x + z + f2)^2 + (1|g)"),
  case("24a", "y ~ poly(x, 2) + (1|g)"),
  case("24b", "y ~ bs(x, df = 4) + (1|g)"),
  case("24c", "y ~ scale(x) + (1|g)"),
  case("25a", "y ~ log(z) + (log(z)|g)"),
  case("25b", "y ~ I(x^2) + (I(x^2)|g)"),
  case("25c", "log(z) ~ x + (1|g)"),
  case("26a", "y ~ offset(z) + x + (1|g)"),
  case("26b", "y ~ x + (1|g)", offset = "z"),
  case("26c", "y ~ offset(z) + x + (1|g)", offset = "z"),
  case("26d", "y ~ offset(log(z)) + x + offset(off) + (x|g)"),
  case("27a", "y ~ x + (1|num)"),
  case("27b", "y ~ x + (1|chr)"),
  case("27c", "y ~ x + (1|lg)"),
  case("28", "y ~ x + (1|gu)"),
  case("29a", "y ~ xna + (1|g)"),
  case("29b", "y ~ x + (1|gna)"),
  case("29c", "y ~ x + (1|g)", weights = "wna"),
  case("29d", "y ~ xna + (xna|gna) + (1|h)", weights = "wna"),
  case("30a", "y ~ x + (1|factor(s))", r_formula = "y ~ x + (1|s_factor)"),
  case("30b", "y ~ x + (1|cut(z, 3))", r_formula = "y ~ x + (1|z_cut)"),
  case("30c", "y ~ x + (1|interaction(f, f2))", r_formula = "y ~ x + (1|f_f2)"),
  case("31", "y ~ x + (0|g)", kind = "error"),
  case("32a", "y ~ . + (1|g)", columns = c("y", "x", "f", "g"), criterion_only = TRUE),
  case("32b", "y ~ . - x + (1|g)", columns = c("y", "x", "f", "g"), criterion_only = TRUE),
  case("32c", "y ~ .^2 + (1|g)", columns = c("y", "x", "f", "f2", "g"), criterion_only = TRUE),
  case("33", "y ~ x + us(x|g)", r_formula = "y ~ x + (x|g)"),
  case("34a", "y ~ x + diag(x|g)", r_formula = "y ~ x + (x||g)"),
  case("34b", "y ~ x + diag(f|g)", r_formula = "y ~ x + (1|g) + (0 + fb|g) + (0 + fc|g)"),
  case("35", "y ~ x + cs(0 + f|g)", kind = "unsupported"),
  case("36", "y ~ x + ar1(0 + f|g)", kind = "unsupported"),
  case("37a", "y ~ 1 + (f2:x|g)"),
  case("37b", "y ~ f2:x + (f2:x|g)"),
  case("38", "y ~ x + (1|one)", kind = "error"),
  case("39", "y ~ x + (1|obs)", kind = "error"),
  case("40", "y ~ x + (1|g) - x"),
  case("41", "y ~ x", kind = "error"),
  case("42a", "y ~ x + (1|g)", weights = "wzero", drop_zero = TRUE),
  case("42b", "y ~ x + (x|g) + (1|h)", weights = "wzero", drop_zero = TRUE),
  case("42c", "y ~ x + (1|g)", weights = "wneg", kind = "error"),
  case("43a", "y ~ x + 1|g"),
  case("43b", "y ~ (1|g)*f", r_formula = "y ~ f + (1|g)"),
  case("43c", "y ~ x + ((1|g))"),
  case("43d", "y ~ x + ((1|g)|h)", kind = "error"),
  case("44a", "y ~ lg*x + (lg|g)"),
  case("44b", "y ~ chr + (1|g)"),
  case("44c", "y ~ f*f2*x + (1|g)"),
  case("44d", "y ~ f/f2 + (1|g)"),
  case("44e", "y ~ f + f:f2 + (f2|g)"),
  case("44f", "y ~ x:f2 + f + (1|g)"),
  case("44g", "y ~ 0 + f:x + (1|g)"),
  case("44h", "y ~ 0 + f + f2 + (1|g)"),
  case("44i", "y ~ f %in% f2 + (1|g)"),
  case("44j", "y ~ x^2 + (1|g)"),
  case("44k", "y ~ sqrt(z) + exp(x) + (1|h/g)"),
  case("44l", "y ~ x*z*f2 - x:z:f2 + (0 + x + z|g)"),
  case("44m", "y ~ f2*x + (f2*x|g)"),
  case("44n", "y ~ (f + f2 + x)^2 + (1|h)"),
  case("44o", "y ~ 0 + x:f + f2 + (0 + f2|g) + (1|h)"),
  case("44p", "y ~ x + (1|f/f2/h)"),
  case("44q", "y ~ x + (x|f2:h) + (1|g)"),
  case("44r", "y ~ x + (1|f2) + (1|h:f) + (z||g)"),
  case("44s", "y ~ log(z + 1) + I(x > 0) + (I(x > 0)|g)"),
  case("44t", "y ~ factor(s) + (1|g)"),
  case("44u", "sqrt(y + 10) ~ x + (1|g)"),
  case("44v", "y ~ `my x` + (`my x`|g)"),
  case("44w", "y ~ x + z + poly(x, 2):f2 + (1|g)"),
  case("44x", "y ~ 1 + (1|g) + (1|h) + offset(2 * z)"),
  case("44y", "y ~ x - 1 + f:f2 + (1|g)"),
  case("44z", "y ~ 0 + lg + chr + (0 + lg|h)")
)

fit_one <- function(cs, d, REML) {
  record <- cs
  formula <- if (is.null(cs$r_formula)) cs$formula else cs$r_formula
  if (!is.null(cs$columns)) d <- d[, cs$columns]
  if (isTRUE(cs$drop_zero)) d <- d[d[[cs$weights]] > 0, ]
  out <- tryCatch(
    tight_record(formula, d, REML, cs$weights, cs$offset),
    error = function(e) list(REML = REML, error = conditionMessage(e))
  )
  c(record[setdiff(names(record), names(out))], out)
}

main <- function() {
  d <- make_data()
  write.csv(d, "formula_cases.csv", row.names = FALSE)
  # text and logical columns are read back as factors, as R codes them in a model frame
  d$s_factor <- factor(d$s)
  d$z_cut <- cut(d$z, 3)
  d$f_f2 <- interaction(d$f, d$f2)
  d$fb <- as.numeric(d$f == "b")
  d$fc <- as.numeric(d$f == "c")
  records <- list()
  for (cs in cases) {
    if (is.null(cs$kind)) cs$kind <- "fit"
    if (cs$kind == "unsupported") {
      records[[cs$id]] <- cs
      next
    }
    for (REML in c(TRUE, FALSE)) {
      id <- paste0(cs$id, if (REML) "_reml" else "_ml")
      record <- fit_one(cs, d, REML)
      stopifnot((cs$kind == "error") == !is.null(record$error))
      record$id <- id
      records[[id]] <- record
      if (cs$kind == "error") break
    }
    cat(cs$id, "")
  }
  write_records(records, "formula_cases.json")
}

main()
