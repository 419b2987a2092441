"""A trained model in the formats of other projects: stock `transformers`, and LLaVA's own projector file.

`export_llava` writes a whole model, `export_projector` the trained part alone; both write a folder with a
README.md (the model card) and no pickles.
"""

from pipeline.export.llava import export_llava
from pipeline.export.model_card import CardFacts, model_card
from pipeline.export.projector import export_projector

__all__ = ["CardFacts", "export_llava", "export_projector", "model_card"]
