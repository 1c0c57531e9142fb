# Models beyond the 76 of lme4.json, on other formulas and on simulated data, with the same description of each fit.
# Run from this folder, with the project's data sets two levels up:  Rscript extra_models.R
# Writes extra_models.csv (the simulated data) and extra_models.json.gz.
source("fit_tight.R")

bundled <- "../../data"
manifest <- jsonlite::fromJSON(file.path(bundled, "manifest.json"), simplifyVector = FALSE)$datasets

# Every data set gets two columns made from the row number, for weights and offsets.
add_row_columns <- function(d) {
  i <- seq_len(nrow(d)) - 1
  d$w5 <- 1 + (i %% 5) / 4
  d$o7 <- (i %% 7) / 7
  d
}

read_bundled <- function(name) {
  entry <- Filter(function(e) e$name == name, manifest)[[1]]
  d <- read.csv(file.path(bundled, entry$file), colClasses = "character", na.strings = "NA", check.names = FALSE)
  for (column in entry$columns) {
    d[[column$name]] <- if (column$type == "factor") {
      factor(d[[column$name]], levels = unlist(column$levels))
    } else {
      as.numeric(d[[column$name]])
    }
  }
  add_row_columns(d)
}

# Unbalanced: three crossed factors of Zipf-like sizes (b and c with equally many levels), empty u:v cells, a year.
simulate <- function() {
  set.seed(71)
  n <- 900
  zipf <- function(levels) factor(sample(levels, n, replace = TRUE, prob = 1 / seq_along(levels)), levels = levels)
  d <- data.frame(a = zipf(sprintf("a%02d", 1:40)), b = zipf(sprintf("b%02d", 1:15)), c = zipf(sprintf("c%02d", 1:15)))
  d <- droplevels(d)
  d$u <- factor(sample(c("u1", "u2", "u3"), n, replace = TRUE))
  d$v <- factor(sample(c("v1", "v2", "v3"), n, replace = TRUE))
  d$v[d$u == "u3" & d$v == "v3"] <- "v1"
  d$v[d$u == "u2" & d$v == "v2"] <- "v3"
  d$x <- round(rnorm(n), 3)
  d$t <- round(runif(n, 0, 4), 2)
  d$year <- sample(1995:2015, n, replace = TRUE)
  effect <- function(f, sd) sd * rnorm(nlevels(f))[f]
  ab <- interaction(d$a, d$b, drop = TRUE)
  mean_part <- 2 + 0.5 * d$x + 0.3 * d$t + 0.05 * (d$year - 2005) + (d$u == "u2") - 0.5 * (d$v == "v3")
  d$y <- round(mean_part + effect(d$a, 1) + effect(d$a, 0.5) * d$x + effect(d$b, 0.8) + effect(d$c, 0.3) +
                 effect(ab, 0.4) + effect(d$b, 0.2) * d$t + effect(d$a, 0.06) * (d$year - 2005) + rnorm(n), 4)
  d$noise <- round(rnorm(n), 4)
  d
}

model <- function(id, data, formula, REML = TRUE, ...) list(id = id, data = data, formula = formula, REML = REML, ...)
models <- list(
  model("x_pen_w_reml", "Penicillin", "diameter ~ 1 + (1|plate) + (1|sample)", weights = "w5"),
  model("x_pen_w_ml", "Penicillin", "diameter ~ 1 + (1|plate) + (1|sample)", FALSE, weights = "w5", offset = "o7"),
  model("x_ss_wo_ml", "sleepstudy", "Reaction ~ Days + (Days|Subject)", FALSE, weights = "w5", offset = "o7"),
  model("x_cake_slope_reml", "cake", "angle ~ recipe*temp + (temp|replicate) + (1|recipe:replicate)"),
  model("x_va_wo_reml", "VerbAgg", "r2n ~ btype + situ + mode + (mode|id) + (1|item)", weights = "w5", offset = "o7",
        thorough = FALSE),
  model("x_ie_three_ml", "InstEval", "y ~ studage + lectage + (1|s) + (1|d) + (1|dept:service)", FALSE,
        thorough = FALSE),
  model("x_ie_w_reml", "InstEval", "y ~ service*studage + (1|d) + (1|s)", weights = "w5", thorough = FALSE),
  model("x_hsb_slope_reml", "Hsb82", "mAch ~ meanses*cses + sector*cses + (cses|school)", thorough = FALSE),
  model("x_scot_slope_ml", "ScotsSec", "attain ~ verbal + sex + social + (verbal|primary) + (1|second)", FALSE,
        thorough = FALSE),
  model("x_exam_slope_ml", "Exam", "normexam ~ standLRT*sex + schavg + (standLRT|school)", FALSE, thorough = FALSE),
  model("x_exam_sex_reml", "Exam", "normexam ~ standLRT + intake + (0 + sex|school)", thorough = FALSE),
  model("x_oats_reml", "Oats", "yield ~ nitroF*Variety + (1|Block/Variety)"),
  model("x_oats_sum_reml", "Oats", "yield ~ nitroF*Variety + (1|Block/Variety)",
        contrasts = list(Variety = "contr.sum", nitroF = "contr.helmert")),
  model("x_mach_slope_reml", "Machines", "score ~ Machine + (Machine|Worker)"),
  model("x_mach_cell_ml", "Machines", "score ~ Machine + (0 + Machine|Worker)", FALSE),
  model("x_orth_slope_reml", "Orthodont", "distance ~ I(age - 11)*Sex + (I(age - 11)|Subject)"),
  model("x_oxb_quad_ml", "Oxboys", "height ~ age + I(age^2) + (age + I(age^2)|Subject)", FALSE),
  # lots are nested in sources, so only two of the three parameters of (Source | Lot) are determined
  model("x_oxide_source_ml", "Oxide", "Thickness ~ Source + (Source|Lot) + (1|Lot:Wafer)", FALSE,
        criterion_only = TRUE),
  model("x_diet_nested_slope_reml", "dietox", "Weight ~ Cu*Time + (Time|Litter/Pig)"),
  model("x_diet_feed_reml", "dietox", "Weight ~ Feed + Time + (1|Pig)"),
  model("x_gt_height_reml", "grouseticks", "log(TICKS + 1) ~ YEAR + HEIGHT + (1|BROOD) + (1|LOCATION)"),
  model("x_ara_rank_reml", "Arabidopsis", "log(total_fruits + 1) ~ reg + popu + amd*rack + (1|gen)"),
  model("x_ham_three_reml", "ham", paste("Informed_liking ~ Product*Information*Gender + Age + (1|Consumer)",
                                         "+ (1|Consumer:Product) + (1|Consumer:Information)")),
  model("x_car_slope_ml", "carrots", "Preference ~ sens2 + Homesize + (sens2|Consumer) + (1|Product)", FALSE),
  model("x_tv_four_reml", "TVbo", paste("Coloursaturation ~ TVset*Picture + (1|Assessor) + (1|Assessor:TVset)",
                                        "+ (1|Assessor:Picture) + (1|Assessor:TVset:Picture)")),
  model("x_edu_dbl_ml", "score_parentedu_byclass", "score ~ edu + (edu||classroom)", FALSE),
  model("x_pas_cask_ml", "Pastes", "strength ~ cask + (1|batch) + (1|batch:cask)", FALSE),
  model("x_sim_three_reml", "extra_models", "y ~ x + t + (x|a) + (1|b) + (1|c)"),
  model("x_sim_order_ml", "extra_models", "y ~ x + (1|c) + (t|b) + (x||a)", FALSE),
  model("x_sim_empty_reml", "extra_models", "y ~ u*v*x + (1|a) + (1|b)"),
  model("x_sim_empty_slope_ml", "extra_models", "y ~ u*v + (u|a) + (0 + v|b)", FALSE),
  # an uncentred year: theta is all but undetermined in its own direction, so only criteria are compared
  model("x_sim_year_reml", "extra_models", "y ~ year + x + (year|a) + (1|b)", criterion_only = TRUE),
  model("x_sim_year_centred_reml", "extra_models", "y ~ I(year - 2005) + x + (I(year - 2005)|a) + (1|b)"),
  model("x_sim_inter_reml", "extra_models", "y ~ x*t + (1|a/b) + (1|b/c)", weights = "w5"),
  model("x_sim_noise_reml", "extra_models", "noise ~ x + (x|a) + (1|b)"),
  model("x_sim_noise_ml", "extra_models", "noise ~ u + (u||a) + (1|b) + (1|c)", FALSE)
)

main <- function() {
  sim <- simulate()
  write.csv(sim, "extra_models.csv", row.names = FALSE)
  frames <- list(extra_models = add_row_columns(sim))
  records <- list()
  for (m in models) {
    if (is.null(frames[[m$data]])) frames[[m$data]] <- read_bundled(m$data)
    started <- proc.time()[["elapsed"]]
    out <- tight_record(m$formula, frames[[m$data]], m$REML, m$weights, m$offset, m$contrasts, !isFALSE(m$thorough))
    records[[m$id]] <- c(m[setdiff(names(m), c(names(out), "thorough"))], out)
    cat(m$id, round(proc.time()[["elapsed"]] - started, 1), "s\n")
  }
  write_records(records, "extra_models.json.gz")
}

main()
