"""Data that lies next to the repository and is no part of it; tests skip where it is absent.

It is looked for in the folder that the environment variable VLM_SHARED names, else in `../shared`.
"""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("VLM_SHARED") or Path(__file__).resolve().parents[2] / "shared")


def shared_folder(name: str) -> Path:
    """A folder of that data.

    metrics-reference: captions of a published system, their references, and pycocoevalcap's scores of them.
    photos: photographs with captions in the official layout of Flickr8k.
    ucm-captions: aerial images with a dataset.json in Karpathy's format.
    """
    if not (SHARED / name).is_dir():
        pytest.skip(f"no shared/{name} next to the repository; set VLM_SHARED to the folder that has it")
    return SHARED / name
