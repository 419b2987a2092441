"""What `vlm doctor` looks at: one file for each kind of thing, each check giving results."""
