"""Saved models: the file format and what goes into it."""
