"""The files that commands read and write: images by name, captions to score, captions that were made."""
