"""Stage 0: params.yaml is checked, so that a mistake stops a run before DVC removes any output."""

from dataclasses import asdict
from pathlib import Path

from pipeline.params.schema import Params
from stages.console import PARAMS, stage_banner, stage_command


@stage_command
def main(settings: Params) -> None:
    """Check every setting, the dataset's folder and the models' names, before any other stage.

    The file that it writes is always the same, so that no stage runs again because of it.

    \b
    Reads   params.yaml
    Writes  data/checked
    Params  all

    \b
    Example: python -m stages.check
    """
    from pipeline.datasets.read import require_source
    from pipeline.files.json_files import write_atomic
    from pipeline.hardware.tracking import require_trackers
    from pipeline.pretrained.names import require_model_name
    from pipeline.regions.regions import region_from_request

    checked = Path("data/checked")
    with stage_banner("check", [PARAMS], [checked]) as close_with:
        cache = settings.runtime.model_cache
        # A clone that pulled the features trains without images and without an encoder.
        if asdict(settings.data) != _last_used("prepare", "data"):
            require_source(settings.data)
        if asdict(settings.encoder) != _last_used("encode", "encoder"):
            require_model_name(settings.encoder.name, "image encoder", cache)
        require_model_name(settings.language_model.name, "language model", cache)
        require_trackers(settings.runtime.trackers)
        for request in settings.regions.requests:
            region_from_request(request)
        write_atomic(checked, b"params.yaml was checked\n")
        close_with("all settings are valid")


def _last_used(stage: str, section: str) -> object:
    """Return the section of params.yaml with which DVC ran a stage last (dvc.lock); None if never."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe").load(Path("dvc.lock"))["stages"][stage]["params"][str(PARAMS)][section]
    # A file that is missing, empty or damaged says nothing; DVC complains of it.
    except (OSError, KeyError, TypeError, YAMLError):
        return None


if __name__ == "__main__":
    main()
