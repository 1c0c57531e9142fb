# What the R packages themselves hold in the data sets of data/: row counts, moments and level counts.
# Run from this folder:  Rscript data_moments.R      (writes data_moments.json)
# score_parentedu_byclass is in no R package; its numbers come from the published csv file.
suppressPackageStartupMessages({
  library(lme4)
})

packages <- list(
  lme4 = c("Arabidopsis", "cake", "cbpp", "Dyestuff", "Dyestuff2", "grouseticks", "InstEval", "Pastes", "Penicillin",
           "sleepstudy", "VerbAgg"),
  nlme = c("Machines", "Oats", "Orthodont", "Oxboys", "Oxide", "Rail"),
  mlmRev = c("Exam", "Hsb82", "ScotsSec"), lmerTest = c("carrots", "ham", "TVbo"), geepack = "dietox"
)

describe <- function(column) {
  if (is.factor(column)) {
    counts <- table(column)
    list(type = "factor", levels = as.list(names(counts)), counts = as.list(unname(c(counts))))
  } else {
    x <- column[!is.na(column)]
    list(type = "numeric", missing = sum(is.na(column)), mean = mean(x), sd = sd(x), min = min(x), max = max(x),
         weighted = sum(seq_along(column)[!is.na(column)] * x))
  }
}

out <- list()
for (package in names(packages)) {
  for (name in packages[[package]]) {
    holder <- new.env()
    data(list = name, package = package, envir = holder)
    d <- as.data.frame(holder[[name]])
    names(d) <- gsub(".", "_", names(d), fixed = TRUE)
    out[[name]] <- list(package = package, version = as.character(packageVersion(package)), nrow = nrow(d),
                        columns = lapply(d, describe))
  }
}
writeLines(jsonlite::toJSON(out, auto_unbox = TRUE, digits = NA), "data_moments.json")
