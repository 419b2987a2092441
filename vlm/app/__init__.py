"""The web page of `vlm app`: a trained captioner for whoever opens a browser on this machine."""
