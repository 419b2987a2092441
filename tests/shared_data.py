"""Data that lies next to the repository and is no part of it; tests skip where it is absent.

It is looked for in the folder that the environment variable VLM_SHARED names, else in `../shared`.
"""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("VLM_SHARED") or Path(__file__).resolve().parents[2] / "shared")


def metrics_reference() -> Path:
    """Captions of a published system, their references, and pycocoevalcap's scores of them."""
    return _folder("metrics-reference")


def photos() -> Path:
    """Photographs with captions in the official layout of Flickr8k."""
    return _folder("photos")


def ucm_captions() -> Path:
    """UCM-Captions: aerial images with a dataset.json in Karpathy's format."""
    return _folder("ucm-captions")


def _folder(name: str) -> Path:
    if not (SHARED / name).is_dir():
        pytest.skip(f"no shared/{name} next to the repository; set VLM_SHARED to the folder that has it")
    return SHARED / name
