"""Stage 4: captions become token ids."""

from pathlib import Path

from pipeline.params.schema import Params
from stages.console import stage_banner, stage_command


@stage_command
def main(settings: Params) -> None:
    """Tokenize the prompt and every caption.

    \b
    Reads   data/captions.jsonl
    Writes  data/tokens.h5
    Params  prompt, language_model.name, language_model.revision

    \b
    Example: python -m stages.tokenize
    """
    from pipeline.text.prompt import CaptionTokenizer
    from pipeline.text.token_store import tokenize_captions

    captions, tokens = Path("data/captions.jsonl"), Path("data/tokens.h5")
    with stage_banner("tokenize", [captions], [tokens]) as close_with:
        tokenizer = CaptionTokenizer(settings.prompt, settings.language_model, settings.runtime.model_cache)
        close_with(tokenize_captions(captions, tokens, tokenizer))


if __name__ == "__main__":
    main()
