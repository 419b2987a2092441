"""What the name of a frozen model may be, checked without a network and without importing torch.

A name is `wheel:NAME`, a local folder, or the id of a repository of the hub.
"""

import os
import re
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.pretrained.wheels import WheelKind, is_wheel, wheel_folder

# As the hub has it: letters, digits, `-`, `_` and `.`, neither `--` nor `..`, no `-` or `.` at an end.
_HUB_ID = re.compile(r"(?!.*(--|\.\.))(?!.*\.git$)(\w[\w.-]*/)?\w([\w.-]{0,94}\w)?", re.ASCII)


def require_model_name(name: str, kind: WheelKind, model_cache: Path | None) -> None:
    """Raise PipelineError unless `name` can be a model of that kind.

    A wheel must exist in the list of this project and be of that kind, and the folder that it is unpacked in
    must be one. A folder must exist. Whether the hub has an id is not asked.
    """
    if is_wheel(name):
        folder = wheel_folder(name, kind, model_cache)
        existing = next(path for path in folder.parents if path.exists())
        if not existing.is_dir():
            raise PipelineError(
                f"{name} is unpacked in {folder.parent} (runtime.model_cache), but {existing} is not a "
                "folder. Fix: set runtime.model_cache to a folder, or to null."
            )
    elif not os.path.isdir(name):  # noqa: PTH112 - Path raises an error for names that are too long
        if name.startswith((".", "/", "~")):
            raise PipelineError(
                f"There is no model folder {name} (the {kind}). Fix: give a folder, or a hub id like "
                "org/model."
            )
        if not _HUB_ID.fullmatch(name):
            raise PipelineError(f"{name!r} is not a folder or a hub id like org/model (the {kind}).")
