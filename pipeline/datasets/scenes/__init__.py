"""The generated dataset: scenes of colored shapes, drawn and described."""
