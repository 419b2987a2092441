"""Images to try the page with, of the kind that its model was trained on."""

from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.captions import read_captions, read_images
from pipeline.datasets.scenes.draw import draw_scenes
from pipeline.errors import PipelineError
from pipeline.images.images import open_image
from pipeline.model.checkpoints import CheckpointInfo
from pipeline.params.schema import Limits, ScenesParams
from vlm.app.answers import picture

_COUNT = 5
_SIDE = 640  # pixels of the longer side, at most
# In all five; of a seed that is no run's, unless somebody chose it.
_SCENES = ScenesParams(train=1, dev=1, test=3, image_size=224, seed=-1)


def example_pictures(checkpoint: Path, info: CheckpointInfo, max_megapixels: float) -> list[str]:
    """Return data addresses: of new scenes for a model of scenes, else of test images of its run.

    The lists of the run's images lie next to the checkpoint; without them or the images nothing is returned.
    """
    try:
        with TemporaryDirectory() as folder:
            if info.data and info.data.get("source") == "scenes":
                paths = [path for _, path in draw_scenes(_SCENES, Limits(None, None, None), Path(folder))]
            else:
                paths = _test_images(checkpoint.parent)
            return [picture(open_image(path, max_megapixels), _SIDE) for path in paths]
    except (PipelineError, OSError):  # no examples, as on a full disk, are no reason to serve no page
        return []


def _test_images(data: Path) -> list[Path]:
    test = {record.image_id for record in read_captions(data / "captions.jsonl") if record.split == "test"}
    listed = [image for image in read_images(data / "images.jsonl") if image.image_id in test]
    images = [data.parent / image.path for image in listed]  # relative paths are of the project
    return images[:: max(1, len(images) // _COUNT)][:_COUNT]
