"""Images to features: the encode stage and the blocks of its finished work."""
