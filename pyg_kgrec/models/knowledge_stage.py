"""KTUP's triples alone, before training (``knowledge_epochs``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from pyg_kgrec._trainer import Epochs, Generator, power_of_two, run
from pyg_kgrec.models.inputs import Inputs

if TYPE_CHECKING:
    from pyg_kgrec.models.ktup import KTUP

_LR = 3e-3  # as of pretrain_transh


def learn_triples(model: KTUP, inputs: Inputs, progress: bool) -> None:
    """Trains what the triples' task learns for ``model.knowledge_epochs``.

    Args:
        model: The model; changed in place.
        inputs: The training store, read once.
        progress: Show a progress bar.
    """
    count = inputs.triple.size(1)
    source = torch.Generator().manual_seed(0)
    order = BatchSampler(
        RandomSampler(range(count), generator=source), power_of_two(count / 80, 256, 1024), False
    )
    batches: DataLoader[int] = DataLoader(
        cast(Any, range(count)),
        batch_sampler=order,
        generator=torch.Generator(),  # without one the loader takes a number from the global generator
    )
    run(
        _KnowledgeStage(model, inputs),
        batches,
        max_epochs=model.knowledge_epochs,
        patience=None,
        accelerator="auto" if model.device.type == "cpu" else model.device.type,
        progress=progress,
    )


class _KnowledgeStage(Epochs):
    """One epoch passes over all triples."""

    title = "triples of KTUP"

    def __init__(self, model: KTUP, inputs: Inputs) -> None:
        super().__init__(model, None, 1, lr=_LR)
        self.inputs, self._generator = inputs, Generator(0)

    def on_fit_start(self) -> None:
        self.inputs = self.model.prepare(self.inputs)

    def configure_optimizers(self) -> Any:
        learned = [p for p in self.model.triple_parameters() if p.requires_grad]
        return torch.optim.Adam(learned, self.lr, fused=self.device.type in ("cpu", "cuda"))

    def step(self, batch: Any, batch_idx: int) -> Tensor | None:
        generator = self._generator.on(self.device)
        return self.count(self.model.knowledge_losses(self.inputs, batch, generator))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        try:
            self.model.constrain()
        except ValueError as error:
            raise self.stopped(str(error)) from error
        super().on_train_batch_end(outputs, batch, batch_idx)
