"""The shapes and the colors of generated scenes."""

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLORS = {
    "red": (214, 39, 40),
    "green": (44, 150, 60),
    "blue": (35, 80, 200),
    "yellow": (245, 215, 40),
    "orange": (250, 130, 20),
    "purple": (125, 50, 165),
    "black": (22, 22, 24),
    "white": (246, 246, 246),
}
