"""A pretrained model's name becomes a verified local folder."""
