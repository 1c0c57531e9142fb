"""Summaries of fits as text, HTML, LaTeX and Markdown."""

from sparselmm.report.summary import Summary, summarize

__all__ = ["Summary", "summarize"]
