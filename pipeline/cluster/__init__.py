"""Encoding on a Ray cluster: the same blocks, made by many machines."""
