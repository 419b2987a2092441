"""The command line `vlm`: what someone does with a trained model, and around a run."""
