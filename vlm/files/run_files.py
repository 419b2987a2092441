"""The files of a run: the one in the workspace, or an experiment or commit in git and DVC's cache."""

import os
from collections.abc import Collection
from pathlib import Path

from pipeline.captions import read_images
from pipeline.errors import PipelineError
from pipeline.files.json_files import read_json
from stages.errors import refuse_while_dvc_runs


class RunFiles:
    """Gives the files of a run by their paths in the project.

    Attributes:
        is_file: whether the name is that of a file of predictions, not of a run.
    """

    def __init__(self, name: str, folder: Path) -> None:
        """Look at a revision of the project in the current folder; its files are copied into `folder`.

        `workspace` is the run in the current folder, and so is that of a file of predictions. Raises
        PipelineError if that file is missing.
        """
        from dvc.api import DVCFileSystem

        self._name, self._folder = name, folder
        self.is_file = os.path.isfile(name)  # noqa: PTH113, Path.is_file raises an error for a long name
        if name.endswith(".jsonl") and not self.is_file:
            raise PipelineError(f"{name!r:.100} does not exist. Fix: pass a file of predictions, or a run.")
        is_here = name == "workspace" or self.is_file
        self._project = None if is_here else DVCFileSystem(".", rev=name)

    def get(self, name: str) -> Path:
        """Return where a file of the run is to be read.

        Raises PipelineError if the run is unknown, neither git nor DVC has the file on this machine, or DVC
        is making it now.
        """
        from dvc.exceptions import DvcException
        from scmrepo.exceptions import SCMError

        if self._project is None:
            if not Path(name).exists():
                refuse_while_dvc_runs(Path(name), "wait until it has ended")
            return Path(name)
        copy = self._folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._project.get_file(name, str(copy))
        except (DvcException, SCMError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise PipelineError(
                f"{self._name!r:.100} has no {name}: {reason}. Fix: commit the run first, or pass "
                "`workspace`, a file, or a run that `dvc exp show` lists."
            ) from error
        return copy

    def predictions(self) -> Path:
        """Return the file of predictions, or a run's test captions of its best epoch.

        Raises PipelineError where that epoch is not known.
        """
        if self.is_file:
            return Path(self._name)
        match read_json(self.get("metrics/evaluate.json")):
            case {"best_epoch": int(best)}:
                return self.get(f"data/predictions/epoch_{best:03d}_test.jsonl")
        raise PipelineError(
            f"metrics/evaluate.json of {self._name!r:.100} names no best_epoch. "
            "Fix: run `dvc repro evaluate` there."
        )

    def images(self, image_ids: Collection[str]) -> dict[str, Path]:
        """Return the files of those images that the run lists and that are found."""
        try:
            listed = {image.image_id: image.path for image in read_images(self.get("data/images.jsonl"))}
        except PipelineError:  # files of captions need no run
            listed = {}
        found = {image: self._image(listed[image]) for image in image_ids if image in listed}
        return {image: path for image, path in found.items() if path.is_file()}

    def _image(self, path: str) -> Path:
        try:
            return self.get(path)
        except PipelineError:  # a dataset of one's own is in neither git nor DVC
            return Path(path)
