"""The training loop: its plan, its state, its resume."""
