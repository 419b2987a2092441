"""The trainings that are kept in a scratch folder, each with its facts: why a run continues none of them."""

import json
import logging
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files.json_files import JsonObject, canonical_json, read_json, write_json
from pipeline.model.fact_differences import differences

logger = logging.getLogger(__name__)

_FACTS = "facts.json"
# Differences that are named; of the others their number is.
_NAMED = 4


def note_training(folder: Path, facts: JsonObject) -> None:
    """Keep the facts of a training in its folder; where it has no state, say how it differs from the last.

    The folders of other trainings lie beside it.
    """
    facts = json.loads(canonical_json(facts))
    last = _last_other(folder)
    if last is not None and not any(folder.glob("state*.safetensors")):
        differing = list(differences(facts, _read_facts(last)))
        named = [f"{name} is {_shown(now)}, was {_shown(was)}" for name, now, was in differing[:_NAMED]]
        more = f"; and {len(differing) - _NAMED} more" if len(differing) > _NAMED else ""
        logger.info("starting afresh, unlike %s: %s%s", last.parent, "; ".join(named), more)
    # Also where it stands already: its time says which training was the last.
    write_json(folder / _FACTS, facts)


def _last_other(folder: Path) -> Path | None:
    """The facts of the other training that ran last; None where there is none."""
    others = [path for path in folder.parent.glob(f"*/{_FACTS}") if path.parent != folder]
    readable = [path for path in others if _read_facts(path)]
    return max(readable, key=lambda path: path.stat().st_mtime_ns, default=None)


def _read_facts(path: Path) -> JsonObject:
    """Empty where they are damaged: they are told to people, and no result follows from them."""
    try:
        facts = read_json(path)
    except PipelineError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _shown(value: Any) -> str:
    """A value, cut short where it is a digest."""
    text = value[:12] if isinstance(value, str) and len(value) == 64 else value
    return f"{text!r:.60}"
