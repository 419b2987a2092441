"""Plots and the gallery page."""
