"""How good captions are: the field's scores, computed as pycocoevalcap does but without Java."""
