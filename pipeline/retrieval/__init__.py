"""The memory of train images and their captions, and the nearest of them to each image."""
