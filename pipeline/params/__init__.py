"""Every setting of a run, and the strict loader of params.yaml."""
