"""Image files: open, check, orient, crop."""
