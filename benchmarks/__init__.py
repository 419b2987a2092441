"""Measurements, run by hand: each prints a table and writes JSON. No test depends on a time."""
