# lme4 with the defaults of lmer(). Arguments: data folder, formula, reml, task, runs, budget, output.
suppressPackageStartupMessages({library(Matrix); library(lme4)})
args <- commandArgs(trailingOnly = TRUE)
folder <- args[1]; text <- args[2]; reml <- args[3] == "true"; task <- args[4]
runs <- as.integer(args[5]); budget <- as.numeric(args[6]); output <- args[7]

read_column <- function(kind, file, levels) {
  path <- file.path(folder, file)
  if (kind == "float") return(readBin(path, "double", file.size(path) / 8, endian = "little"))
  codes <- readBin(path, "integer", file.size(path) / 4, endian = "little")
  if (kind == "int") return(codes)
  structure(codes, levels = readLines(file.path(folder, levels), encoding = "UTF-8"), class = "factor")
}
columns <- read.delim(file.path(folder, "columns.tsv"), header = FALSE, colClasses = "character")
data <- as.data.frame(setNames(lapply(seq_len(nrow(columns)), function(i)
  read_column(columns[i, 2], columns[i, 3], columns[i, 4])), columns[[1]]))
form <- as.formula(text)

memory <- function(key) {
  lines <- tryCatch(readLines("/proc/self/status"), error = function(e) character())
  line <- grep(paste0("^", key), lines, value = TRUE)
  if (length(line)) as.numeric(gsub("[^0-9]", "", line)) * 1024 / 1e6 else NA
}
cpu <- numeric()
clock <- function(call) {
  start <- proc.time()
  force(call)
  spent <- proc.time() - start
  cpu <<- c(cpu, spent[["user.self"]] + spent[["sys.self"]])
  spent[["elapsed"]]
}
criterion <- function(m) if (reml) REMLcrit(m) else deviance(m, REML = FALSE)
quietly <- function(x) suppressMessages(suppressWarnings(x))

toy <- data.frame(g = gl(12, 10), h = gl(10, 1, 120), x = sin(seq_len(120)))
toy$y <- toy$x + cos(as.integer(toy$g)) + sin(2 * as.integer(toy$h)) + cos(37 * seq_len(120))
quietly(lmer(y ~ x + (1 | g) + (1 | h), toy))
invisible(gc())
try(cat("5", file = "/proc/self/clear_refs"), silent = TRUE)
before <- memory("VmRSS")
peak <- NA; evaluations <- NA; converged <- NA; note <- ""; seconds <- numeric()

if (task == "fit") {
  repeat {
    seconds <- c(seconds, clock(model <- quietly(lmer(form, data, REML = reml))))
    if (length(seconds) == 1) peak <- memory("VmHWM") - before
    within <- sum(seconds) + tail(seconds, 1) < budget || (length(seconds) < 3 && seconds[1] < budget)
    if (length(seconds) >= runs || !within) break
  }
  total <- criterion(model)
} else if (task %in% c("refit", "refits")) {
  path <- file.path(folder, "responses.bin")
  Y <- matrix(readBin(path, "double", file.size(path) / 8, endian = "little"), nrow(data))
  base <- quietly(lmer(form, data, REML = reml))
  total <- 0
  for (j in seq_len(ncol(Y))) {
    seconds <- c(seconds, clock(model <- quietly(refit(base, Y[, j]))))
    total <- total + criterion(model)
  }
  # the clock ticks in milliseconds: the mean of all is what can be said of one
  together <- function(x) if (task == "refits") sum(x) else rep(mean(x), length(x))
  seconds <- together(seconds); cpu <- together(cpu)
} else if (task == "cold") {
  code <- sprintf(paste0("suppressPackageStartupMessages(library(lme4)); data(InstEval); m <- lmer(%s, InstEval, ",
                         "REML = %s); print(summary(m), correlation = FALSE); cat('criterion', ",
                         "sprintf('%%.12f', %s), '\\n')"),
                  text, reml, if (reml) "REMLcrit(m)" else "deviance(m)")
  program <- file.path(R.home("bin"), "Rscript")
  seconds <- clock(lines <- system2(program, c("-e", shQuote(code)), stdout = TRUE))
  total <- as.numeric(sub("criterion", "", tail(grep("^criterion", lines, value = TRUE), 1)))
  model <- NULL; cpu <- numeric()
} else {
  writeLines('{"unsupported": "no runner for this task"}', output)
  quit(status = 0)
}

if (!is.null(model)) {
  feval <- model@optinfo$feval
  if (!is.null(feval) && task == "fit") evaluations <- as.integer(feval)
  said <- unlist(model@optinfo$conv$lme4$messages)
  converged <- length(said) == 0
  note <- paste(said, collapse = "; ")
}
number <- function(x) if (length(x) != 1 || is.na(x)) "null" else sprintf("%.17g", as.numeric(x))
numbers <- function(x) paste(sprintf("%.17g", x), collapse = ", ")
string <- function(x) paste0('"', gsub('(["\\\\])', "\\\\\\1", gsub("[[:cntrl:]]+", " ", x)), '"')
blas <- tryCatch(basename(extSoftVersion()[["BLAS"]]), error = function(e) "")
writeLines(sprintf(
  '{"seconds": [%s], "cpu": [%s], "peak_mb": %s, "criterion": %s, "kind": %s, "evaluations": %s, "converged": %s, "note": %s, "versions": {"R": %s, "lme4": %s, "blas": %s}}',
  numbers(seconds), numbers(cpu), number(peak), number(total), string(if (reml) "REML" else "ML"),
  number(evaluations), if (is.na(converged)) "null" else tolower(converged), string(note),
  string(as.character(getRversion())), string(as.character(packageVersion("lme4"))), string(blas)), output)
