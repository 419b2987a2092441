"""The web page of `vlm app`: a trained captioner for anyone who opens a browser on this machine."""
