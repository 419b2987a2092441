"""The code that a stage's finished work follows from, and a digest of it.

DVC runs a stage again when its code changes. What the stage stored in earlier runs (encoded images, optimizer
state, captions) is then used only if the code that computed it is the same. That code is named by rooms;
files of these rooms that cannot change a stored result are left out, each with its reason.
"""

import hashlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# Where the code lies.
PIPELINE = Path(__file__).parent


@dataclass(frozen=True)
class ResultCode:
    """The code that the stored work of a stage follows from.

    Attributes:
        rooms: folders or files of `pipeline/`.
        without: files of these rooms that cannot change a stored result, and why not.
    """

    rooms: tuple[str, ...]
    without: Mapping[str, str] = field(default_factory=dict)

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 (hex) of each file by its path in `pipeline/`: a difference has a name."""
        paths = [PIPELINE / room for room in self.rooms]
        files = [file for path in paths for file in (path.glob("*.py") if path.is_dir() else [path])]
        names = {file.relative_to(PIPELINE).as_posix() for file in files if file.name != "__init__.py"}
        counted = sorted(names - self.without.keys())
        return {name: hashlib.sha256((PIPELINE / name).read_bytes()).hexdigest() for name in counted}


def library_versions(*names: str) -> dict[str, str]:
    """Return the installed version of each library.

    Unfinished work must not mix two versions; finished outputs stay.
    """
    return {name: importlib.metadata.version(name) for name in names}


_PROBE = {"model/probe.py": "refuses models; it computes no result"}
_WITHOUT_TRAINING = {**_PROBE, "model/dequantize.py": "only training does that"}
_CONSENSUS = (
    "metrics/consensus.py",
    "metrics/cider.py",
    "metrics/tokenizer.py",
    "metrics/token_characters.py",
    "metrics/token_patterns.py",
)

ENCODE = ResultCode(
    rooms=("images", "vision", "encoding"),
    without={
        "encoding/blocks.py": "finds finished blocks, which their digests verify",
        "encoding/encode.py": "decides which images are encoded, not what becomes of one",
    },
)
TRAIN = ResultCode(
    rooms=("model", "training", "text/prompt.py", "hardware/processes.py"),
    without={
        **_PROBE,
        "model/generation.py": "training generates no captions",
        "model/feature_captioner.py": "training generates no captions",
        "training/cost.py": "measures time and memory",
        "training/provenance.py": "says what is compared: another provenance is another fingerprint",
        "training/outputs.py": "computed again in every run, from stored work",
        "training/prefetch.py": "decides when a step is prepared, not what is in it",
    },
)
EVALUATE = ResultCode(
    rooms=(
        "model",
        "text/prompt.py",
        "retrieval/memory.py",
        "retrieval/neighbors.py",
        "evaluation/predictor.py",
        *_CONSENSUS,
    ),
    without=_WITHOUT_TRAINING,
)
CONTROLS = ResultCode(rooms=("evaluation/controls.py", "metrics/controls.py", *_CONSENSUS))
REGIONS = ResultCode(
    rooms=(
        "images",
        "vision",
        "retrieval/nearest.py",
        "retrieval/memory.py",
        "model",
        "text/prompt.py",
        "regions",
        *_CONSENSUS,
    ),
    without={**_WITHOUT_TRAINING, "regions/words.py": "the boxes that words become are compared"},
)
