"""What follows from a fit: tests, intervals, prediction, simulation, diagnostics."""
