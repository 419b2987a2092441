"""A lightweight LLaVA-style captioner: frozen image encoder, trained projector, frozen language model.

`from pipeline import Captioner` is the way to use a trained model. It is loaded at its first use: importing
this package must stay cheap, and a stage must not depend on modules that it does not use.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.regions.captioner import Captioner as Captioner

__all__ = ["Captioner"]


def __getattr__(name: str) -> Any:
    if name == "Captioner":
        return importlib.import_module("pipeline.regions.captioner").Captioner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
