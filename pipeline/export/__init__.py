"""A trained model in the formats of other projects: stock `transformers`, and LLaVA's own projector file."""
