"""Projector, frozen language model, packing, loss, generation, checkpoints."""
