"""A checkpoint of tiny models with a random projector: enough to caption and answer, without training."""

from dataclasses import asdict
from pathlib import Path

import torch

from pipeline.files.json_files import write_json
from pipeline.hardware.device import choose_placement
from pipeline.model.adapters import adapter_spec, inject_adapters
from pipeline.model.checkpoints import CheckpointInfo, save_checkpoint
from pipeline.model.language_model import load_language_model
from pipeline.model.projector import Projector
from pipeline.model.vision_language_model import VisionLanguageModel
from pipeline.params.schema import Params
from pipeline.text.prompt import CaptionTokenizer
from pipeline.vision.load import load_encoder


def save_scores(path: Path, epoch: int = 1) -> None:
    """Write the metrics/evaluate.json of the run that a checkpoint of `save_captioner` is of."""
    scores = dict.fromkeys(("bleu_1", "bleu_4", "cider", "rouge_l"), 12.5)
    run = {"best_epoch": epoch, "training": "fingerprint", "images": {"test": 6}}
    write_json(path, {**run, "test": scores, "controls": {}})


def save_captioner(path: Path, params: Params) -> Path:
    """Write a checkpoint of epoch 1 that names the frozen models of `params`."""
    placement = choose_placement("cpu")
    encoder = load_encoder(params.encoder, placement.device)
    language = load_language_model(params.language_model, placement)
    tokenizer = CaptionTokenizer(params.prompt, params.language_model)
    torch.manual_seed(0)
    projector = Projector(encoder.spec.width, params.projector.hidden_size, language.width)
    # Standardized by noise, so that other images are told apart.
    features = encoder.encode(torch.randn(4, 3, encoder.spec.image_size, encoder.spec.image_size))
    projector.standardize(features.float())
    projector.scale_output(features.float(), language.embedding_norm())
    adapters = inject_adapters(language, params.lora)
    for matrix in adapters.parameters():
        torch.nn.init.normal_(matrix, std=0.3)  # as if trained: new ones would change nothing
    info = CheckpointInfo(
        epoch=1,
        encoder=asdict(encoder.spec),
        tokenizer=tokenizer.spec,
        language_model=language.spec,
        hidden_size=params.projector.hidden_size,
        width_out=language.width,
        train={"learning_rate": 1e-3},
        training="fingerprint",
        features="123",
        tokens="456",
        longest_caption=params.prompt.max_caption_tokens + 1,
        lora=adapter_spec(params.lora),
        data={"source": "scenes", "name": "scenes", "images": 16, "conversations": 80, "longest_answer": 6},
    )
    model = VisionLanguageModel(projector, language, tokenizer.prompt, adapters)
    save_checkpoint(path, model.trainable_state(), info)
    return path
