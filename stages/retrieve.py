"""Stage 3: for each image, the train images that look most like it are found."""

from pipeline.params.schema import Params
from stages.console import stage_banner, stage_command


@stage_command
def main(settings: Params) -> None:
    """Collect the memory of the train images and their captions; find the neighbors of every image.

    The controls say what people said of an image's neighbors; with prompt.similar_captions the prompt
    shows it.

    \b
    Reads   data/features.h5, data/captions.jsonl
    Writes  data/memory.h5, data/neighbors.h5
    Params  prompt.similar_captions

    \b
    Example: python -m stages.retrieve
    """
    from pipeline.retrieval.retrieve import RetrievePaths, retrieve

    paths = RetrievePaths()
    reads, writes = [paths.features, paths.captions], [paths.memory, paths.neighbors]
    with stage_banner("retrieve", reads, writes) as close_with:
        memory, neighbors = retrieve(paths, settings.prompt.similar_captions)
        close_with(f"{len(memory)} train images, neighbors of {len(neighbors.image_ids)} images")


if __name__ == "__main__":
    main()
