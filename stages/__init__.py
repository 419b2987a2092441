"""One thin command for each DVC stage, run as `python -m stages.NAME` from the project's root."""
