# Writes emmeans.json: means, slopes and contrasts of R's emmeans, with Satterthwaite's degrees of freedom.
# Run in this folder:
#   python emmeans_data.py /tmp && Rscript emmeans.R /tmp
suppressMessages({library(lmerTest); library(emmeans)})
emm_options(lmer.df = "satterthwaite", msg.interaction = FALSE, msg.nesting = FALSE)
folder <- commandArgs(trailingOnly = TRUE)[1]
read <- function(name, factors) {
  data <- read.csv(file.path(folder, paste0(name, ".csv")))
  for (f in factors) data[[f]] <- factor(data[[f]])
  data
}
nested <- read("nested", c("strain", "geno", "box"))
outside <- read("outside", c("group", "cat", "sub", "block"))
crossed <- read("crossed", c("f", "h", "g"))
crossed$f <- factor(crossed$f, levels = c("hi", "lo", "mid", "top"))

n1 <- lmer(y ~ geno + strain + (1 | box), nested)
o1 <- lmer(y ~ group * (cat + sub) + (1 | block), outside)
o2 <- lmer(y ~ group + cat * sub + (1 | block), outside)
c1 <- lmer(log(y) ~ f * h * x + (1 | g), crossed)
c2 <- lmer(sqrt(y) ~ f + h + poly(x, 2) + (1 | g), crossed)
c3 <- lmer(log(y + 1) ~ f + h + (1 | g), crossed)
c4 <- lmer(log10(y) ~ f * h + (1 | g), crossed, weights = w)
c5 <- lmer(I(1 / y) ~ f + x + (1 | g), crossed)
c6 <- lmer(log(y) ~ f + h * poly(x, 3) + (1 | g), crossed)

cases <- list()
add <- function(name, object, ...) {
  s <- as.data.frame(summary(object, infer = c(TRUE, TRUE), ...))
  cases[[name]] <<- s
}
add("geno", emmeans(n1, "geno"))
add("strain", emmeans(n1, "strain"))
add("geno pairs", contrast(emmeans(n1, "geno"), "pairwise"))
add("strain pairs", contrast(emmeans(n1, "strain"), "pairwise"))
add("strain by geno", contrast(emmeans(n1, "strain", by = "geno"), "pairwise"))
add("all nested", emmeans(n1, ~ 1))
add("group", emmeans(o1, "group"))
add("cat", emmeans(o1, "cat"))
add("sub by group", emmeans(o1, "sub", by = "group"))
add("group proportional", emmeans(o1, "group", weights = "proportional"))
add("group cells", emmeans(o1, "group", weights = "cells"))
add("group of product", emmeans(o2, "group"))
add("f", emmeans(c1, "f"))
add("f proportional", emmeans(c1, "f", weights = "proportional"))
add("f cells", emmeans(c1, "f", weights = "cells"))
add("overall proportional", emmeans(c1, ~ 1, weights = "proportional"))
add("overall cells weighted", emmeans(c4, ~ 1, weights = "cells"))
add("h proportional weighted", emmeans(c4, "h", weights = "proportional"))
add("poly", contrast(emmeans(c1, "f"), "poly"))
add("interaction", contrast(emmeans(c1, ~ f * h), interaction = "pairwise"))
add("interaction two", contrast(emmeans(c1, ~ f * h), interaction = c("poly", "consec")))
add("interaction by", contrast(emmeans(c1, ~ f, by = "h"), interaction = "poly"))
add("trends", emtrends(c1, "f", var = "x"))
add("trends by", emtrends(c1, "f", by = "h", var = "x"))
add("trend pairs", contrast(emtrends(c1, "f", var = "x"), "pairwise"))
add("trends cells", emtrends(c1, "h", var = "x", weights = "cells"))
add("trend cubic at", emtrends(c6, "h", var = "x", at = list(x = 1.5), delta.var = 1e-6))
add("response log", emmeans(c1, "f"), type = "response")
add("ratios", contrast(emmeans(c1, "f"), "pairwise"), type = "response")
add("response sqrt", emmeans(c2, "f"), type = "response")
add("response log plus", emmeans(c3, "h"), type = "response")
add("response log10", emmeans(c4, "h"), type = "response")
add("ratio log10", contrast(emmeans(c4, "h"), "pairwise"), type = "response")

value <- function(x) {
  if (is.numeric(x)) ifelse(is.finite(x), sprintf("%.10g", x), ifelse(is.na(x), "NaN", ifelse(x > 0, "Infinity", "-Infinity")))
  else paste0("\"", as.character(x), "\"")
}
column <- function(name, x) paste0("\"", name, "\": [", paste(value(x), collapse = ", "), "]")
table <- function(s) paste0("{", paste(mapply(column, names(s), s), collapse = ", "), "}")
body <- paste0("\"", names(cases), "\": ", vapply(cases, table, ""), collapse = ",\n")
software <- paste("emmeans", packageVersion("emmeans"), "lmerTest", packageVersion("lmerTest"), R.version.string)
writeLines(paste0("{\"software\": \"", software, "\",\n", body, "}"), "emmeans.json")
