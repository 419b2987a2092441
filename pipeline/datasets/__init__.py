"""Caption datasets: readers, generated scenes, downloads, and the prepare stage."""
