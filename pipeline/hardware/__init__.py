"""Device, precision, memory and progress bars of the machine that a run is on."""
