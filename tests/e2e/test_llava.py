"""A tiny model is trained on LLaVA's JSON by the real DVC, and its export answers in stock transformers.

Run: .venv/bin/python -m pytest tests/e2e/test_llava.py
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from pipeline import Captioner
from pipeline.export.llava import export_llava
from pipeline.model.checkpoints import load_checkpoint
from pipeline.params.schema import Params
from tests.dataset_makers import said
from tests.e2e.conftest import Project, make_project
from tests.params_files import with_changes
from tests.tiny_llama import GREEDY

COLORS = {"red": (200, 30, 30), "green": (30, 160, 50), "blue": (30, 60, 200)}
QUESTION = "What color is the picture?"


def save_llava(folder: Path, count: int = 24) -> None:
    """Write LLaVA's JSON about pictures of one color: conversations, requests for captions, a text alone."""
    (folder / "images").mkdir(parents=True)
    noise = np.random.default_rng(0)
    entries: list[dict[str, Any]] = [{"id": "text", "conversations": said("Who are you?", "A model.")}]
    for number in range(count):
        name, (color, value) = f"{number:03}.png", list(COLORS.items())[number % 3]
        pixels = np.clip(value + noise.integers(-20, 20, (8, 8, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).resize((64, 48)).save(folder / "images" / name)
        talk = said(f"{QUESTION}\n<image>", f"It is {color}.", "And its border?", f"It is {color}, too.")
        entries.append({"id": number, "image": name, "conversations": talk})
        if number % 4 == 0:
            request = "<image>\nRender a clear and concise summary of the photo."
            entries.append(
                {"id": f"c{number}", "image": name, "conversations": said(request, f"a {color} one")}
            )
    (folder / "instruct.json").write_text(json.dumps(entries))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_params: Params) -> Project:
    folder = tmp_path_factory.mktemp("llava")
    save_llava(folder / "dataset")
    data = {"source": "llava", "root": str(folder / "dataset")}
    params = with_changes(tiny_params, data=data, language_model={"quantization": "none"})
    project = make_project(folder / "project", params)
    project.run("dvc", "repro")
    return project


@pytest.mark.slow
def test_training_on_llavas_json_gives_scores_and_answers(trained: Project) -> None:
    evaluation = json.loads((trained.folder / "metrics/evaluate.json").read_text())
    answers = evaluation["answers"]
    # Of two turns the first is asked: the second needs the conversation before it.
    assert answers["questions"] == evaluation["images"]["test"] == 2
    assert answers["controls"].keys() == {"most_frequent", "shuffled"}
    info = load_checkpoint(trained.folder / "data/best.safetensors").info
    assert info.data is not None
    assert info.data["conversations"] == info.data["images"] == 20
    page = (trained.folder / "report/index.html").read_text()
    assert QUESTION in page
    assert "Right answers in %" in trained.run("python", "-m", "stages.summary")


@pytest.mark.slow
def test_an_export_answers_alike_in_stock_transformers(trained: Project, tmp_path: Path) -> None:
    checkpoint = trained.folder / "data/best.safetensors"
    captioner = Captioner.load(checkpoint, device="cpu")
    folder = export_llava(checkpoint, tmp_path / "model")
    model = LlavaForConditionalGeneration.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    for path in sorted((trained.folder.parent / "dataset" / "images").iterdir())[:4]:
        for question in (QUESTION, "How many?"):
            chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
            text = processor.apply_chat_template(chat, add_generation_prompt=True)
            with Image.open(path) as picture:
                inputs = processor(images=picture, text=text, return_tensors="pt")
            row = model.generate(**inputs, max_new_tokens=8, do_sample=False)[0]
            said_there = processor.decode(row[inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            ours = captioner.answer(question, path, generate=GREEDY).text
            assert " ".join(said_there.split()) == ours
