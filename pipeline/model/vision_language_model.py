"""Projector and language model together: from image features to the loss, or to captions.

No image is read here: training and evaluation work on cached features alone.

B: images, P: tokens of an image, D_v: width of the encoder, D_l: width of the language model, L: length of
the prefix (prompt and image), C, S, T, N: as in `pipeline.model.packing`.
"""

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pipeline.model.adapters import NO_ADAPTERS, Adapters, split_state
from pipeline.model.caption_loss import caption_loss
from pipeline.model.language_model import LanguageModel
from pipeline.model.packing import PackedBatch
from pipeline.model.projector import Projector
from pipeline.text.prompt import Prompt


class VisionLanguageModel(nn.Module):
    """A trainable projector in front of a frozen language model, which may carry trainable adapters.

    Attributes:
        before: `[1, .., D_l]`, the embeddings of the words before the image.
        after: `[1, .., D_l]`, those of the constant words after it.
    """

    def __init__(
        self,
        projector: Projector,
        language_model: LanguageModel,
        prompt: Prompt,
        adapters: Adapters = NO_ADAPTERS,
    ) -> None:
        super().__init__()
        self.projector = projector
        self.language_model = language_model
        self.prompt = prompt
        self.adapters = adapters
        with torch.no_grad():
            device = language_model.device
            # The words of the prompt are constant: they are embedded once.
            before = language_model.embed(torch.tensor(prompt.before, device=device))
            after = language_model.embed(torch.tensor(prompt.after, dtype=torch.long, device=device))
        self.before = nn.Buffer(before.unsqueeze(0), persistent=False)
        self.after = nn.Buffer(after.unsqueeze(0), persistent=False)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """List what the optimizer changes: the projector, then the adapters."""
        return [*self.projector.parameters(), *self.adapters.parameters()]

    def trainable_state(self) -> dict[str, Tensor]:
        """Return all tensors that training makes, by name: the content of a checkpoint."""
        return {**self.projector.state_dict(), **self.adapters.state_dict()}

    def load_trainable_state(self, state: Mapping[str, Tensor], source: str) -> None:
        """Load what `trainable_state` returned; raises PipelineError, naming `source`, for other adapters."""
        projector, adapters = split_state(state)
        self.adapters.load_state_dict(adapters, source)
        self.projector.load_state_dict(projector)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of projector and adapters; the frozen layers stay in evaluation mode."""
        self.training = mode
        self.projector.train(mode)
        self.adapters.train(mode)
        return self

    def embed_image(self, features: Tensor, context_ids: Tensor | None = None) -> Tensor:
        """Image features `[B, P, D_v]` -> embeddings of the image and the words after it `[B, .., D_l]`.

        `context_ids` `[B, C]` are the token ids between the image and the constant words after it.
        """
        # The projector stays in float32; the language model computes in its own type.
        image = self.projector(features.float()).to(self.after.dtype)  # [B, P, D_l]
        context = [] if context_ids is None else [self.language_model.embed(context_ids)]  # [B, C, D_l]
        return torch.cat([image, *context, self.after.expand(len(features), -1, -1)], dim=1)

    def embed_prefix(self, features: Tensor, context_ids: Tensor | None = None) -> Tensor:
        """Image features `[B, P, D_v]` -> embeddings of prompt and image `[B, L, D_l]`."""
        before = self.before.expand(len(features), -1, -1)
        return torch.cat([before, self.embed_image(features, context_ids)], dim=1)

    def loss(self, features: Tensor, batch: PackedBatch) -> Tensor:
        """Sum the cross-entropy over the batch's N labels; divided by N, it is the mean per token (nats).

        Args:
            features: `[B, P, D_v]`, the image of each row of `batch`.
            batch: the packed captions.
        """
        model = self.language_model
        return caption_loss(
            self._predicting(features, batch), model.logits, batch.labels, model.labels_at_a_time
        )

    @torch.inference_mode()
    def log_probabilities(self, features: Tensor, batch: PackedBatch) -> Tensor:
        """Return the log-probability (nats) of each of the batch's N labels, `[N]`, in float32."""
        size = self.language_model.labels_at_a_time
        states = torch.split(self._predicting(features, batch), size)  # [n, D_l] each
        pieces = zip(states, torch.split(batch.labels, size), strict=True)
        logits_and_labels = ((self.language_model.logits(piece), labels) for piece, labels in pieces)
        return -torch.cat([cross_entropy(*pair, reduction="none") for pair in logits_and_labels])

    def _predicting(self, features: Tensor, batch: PackedBatch) -> Tensor:
        """Return the hidden state that predicts each label, `[N, D_l]`."""
        prefix = self.embed_prefix(features, batch.context_ids)  # [B, L, D_l]
        captions = self.language_model.embed(batch.caption_ids)  # [B, S, D_l]
        words = torch.cat([prefix, captions], dim=1)  # [B, T, D_l]
        # Logits only where there is a label: [B, T, V] would need most of the memory.
        hidden = self.language_model.hidden_states(words, batch.mask, batch.positions, batch.predicting)
        return hidden[batch.label_source]  # [N, D_l]
