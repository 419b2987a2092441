"""The prompt template, caption tokens, and tokens.h5."""
