# Column names, coding and values of R's model.matrix for many formulas.
# Run in this folder: Rscript model_matrix.R   (writes model_matrix.json)
# Values are saved as two weighted column sums, which is short and misses no difference in practice.
library(jsonlite)

n <- 24
i <- seq_len(n)
d <- data.frame(
  x = round(sin(i) * 3, 6), z = round(cos(1.7 * i) + 2, 6), w = round(((i * 7) %% 11) / 4, 6),
  f = factor(c("a", "b", "c")[(i %% 3) + 1]),
  f2 = factor(c("u", "v")[((i %/% 3) %% 2) + 1]),
  h = factor(c("p", "q", "r", "s")[((i * 5) %/% 6) %% 4 + 1]),
  lg = (i %% 5) > 1
)
formulas <- readLines("model_matrix_formulas.txt")
weights <- cbind(1 / i, cos(i))

one <- function(line) {
  part <- strsplit(line, " ## ", fixed = TRUE)[[1]]
  contrasts <- if (length(part) > 1) eval(parse(text = part[2])) else NULL
  X <- model.matrix(as.formula(paste("~", part[1])), d, contrasts.arg = contrasts)
  list(formula = part[1], contrasts = if (length(part) > 1) part[2] else NULL,
       columns = I(as.character(colnames(X))), sums = unname(t(X) %*% weights), rank = qr(X)$rank)
}
out <- list(versions = list(R = as.character(getRversion())), data = d, cases = lapply(formulas, one))
writeLines(toJSON(out, digits = 15, auto_unbox = TRUE, dataframe = "columns", null = "null"), "model_matrix.json")
