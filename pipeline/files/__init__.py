"""Files that survive a kill: atomic writes, locks, checksums, and errors of the disk as sentences."""
