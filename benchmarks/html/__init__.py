"""The report as one HTML file that needs no network: summary first, then what it rests on."""

from benchmarks.html.page import page

__all__ = ["page"]
