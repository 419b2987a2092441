"""Data that lies beside the repository and is no part of it; tests skip where it is absent.

Looked for in the folder that the environment variable VLM_SHARED names, else in `../shared`.
"""

import os
from pathlib import Path

import pytest


def _shared() -> Path | None:
    named = os.environ.get("VLM_SHARED")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared"
    return folder if folder.is_dir() else None


SHARED: Path | None = _shared()


def metrics_reference() -> Path:
    """Captions of a published system, their references, and what pycocoevalcap says of them."""
    return _folder("metrics-reference")


def photos() -> Path:
    """Photographs with captions in the official layout of Flickr8k."""
    return _folder("photos")


def ucm_captions() -> Path:
    """UCM-Captions: aerial images with a dataset.json in Karpathy's format."""
    return _folder("ucm-captions")


def _folder(name: str) -> Path:
    if SHARED is None or not (SHARED / name).is_dir():
        pytest.skip(f"no shared/{name} beside the repository; set VLM_SHARED to where it lies")
    return SHARED / name
