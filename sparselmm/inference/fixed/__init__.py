"""Tests of fixed effects."""
