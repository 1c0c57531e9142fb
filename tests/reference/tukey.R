# Writes tukey.json: tails and quantiles of the studentized range from R's ptukey and qtukey.
# Run in this folder: Rscript tukey.R
cases <- expand.grid(k = c(2, 3, 8, 20), df = c(5, 8.3, 17.3, 60, Inf), q = c(0.5, 2, 3.5, 5))
cases$tail <- ptukey(cases$q, cases$k, cases$df, lower.tail = FALSE)
cases$quantile <- qtukey(0.95, cases$k, cases$df)
column <- function(x) paste0("[", paste(ifelse(is.finite(x), sprintf("%.12g", x), "Infinity"), collapse = ", "), "]")
parts <- vapply(names(cases), function(name) paste0("\"", name, "\": ", column(cases[[name]])), "")
writeLines(c("{", paste0("\"software\": \"", R.version.string, "\","), paste(parts, collapse = ",\n"), "}"), "tukey.json")
