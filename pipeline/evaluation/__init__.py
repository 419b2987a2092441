"""Captions for each checkpoint, their scores, and the choice of the epoch."""
