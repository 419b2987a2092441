"""From a request in words to the caption of a region."""
