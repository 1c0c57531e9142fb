"""Profiles of the deviance."""
