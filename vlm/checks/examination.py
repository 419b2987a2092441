"""All checks of `vlm doctor` in their order."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.params.loader import load_params
from pipeline.params.profiles import current_profile, list_profiles
from pipeline.params.schema import Params
from vlm.checks.disk import check_disk
from vlm.checks.finding import Finding
from vlm.checks.machine import check_cores, check_device, check_gpu, check_memory, check_packages
from vlm.checks.models import check_models, check_token
from vlm.checks.project import check_dataset, check_git, check_stages


def examine(folder: Path) -> Iterator[Finding]:
    """Yield what is found of the machine and of the project in a folder (the current one)."""
    params: Params | None = None
    path = folder / "params.yaml"
    try:
        params = load_params(path)
    except PipelineError as error:
        remedy = "run in the project's folder, or `vlm profile sample` where the file is gone"
        if path.is_file():
            remedy = (
                "mend it; `git diff HEAD params.yaml` shows what was changed, and "
                "`vlm profile sample --force` puts a profile in its place, whatever it holds"
            )
        yield Finding("problem", "parameters", str(error), remedy)
    else:
        yield Finding("ok", "parameters", _describe(folder, path))
    yield check_device(params)
    yield from check_gpu(params)
    yield check_cores(params)
    yield check_memory()
    yield from check_packages(folder)
    if params is not None:
        cache = params.runtime.model_cache
        models = check_models(params, Path(cache) if cache else None)
        yield from (model.finding for model in models)
        yield check_token()
        dataset = check_dataset(params)
        yield dataset.finding
        yield from check_disk(folder, params, dataset, models)
    yield check_git(folder)
    # What would run follows from parameters; with these no stage begins.
    if params is not None or not path.is_file():
        yield check_stages(folder)


def _describe(folder: Path, path: Path) -> str:
    try:
        profile = current_profile(path, list_profiles(folder / "profiles"))
    except PipelineError:
        profile = None
    return f"params.yaml is the profile {profile.name}" if profile else "params.yaml, in no profile"
