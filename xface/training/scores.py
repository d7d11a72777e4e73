"""The scores of an epoch: loss, accuracy, precision, recall and AUC of an epoch, over all of its samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchmetrics import SumMetric
from torchmetrics.classification import BinaryAUROC, BinaryPrecision, BinaryRecall, MulticlassAccuracy

SCORES = ("loss", "accuracy", "precision", "recall", "auc")


class EpochScores(nn.Module):
    """Scores over all samples of an epoch, not means over its batches; the class `positive` is looked for.

    Accuracy counts the likeliest classes that are right. Precision and recall take the likeliest class, AUC
    the probability of the positive one, against all others. All are torchmetrics', summed over processes.

    Example:
        >>> epoch = EpochScores(classes=2, positive=0)
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
        >>> epoch.add(logits, torch.tensor([0, 1, 1]), torch.ones(()))
        >>> {name: round(score, 3) for name, score in epoch.scores().items()}
        {'loss': 1.0, 'accuracy': 0.667, 'precision': 0.5, 'recall': 1.0, 'auc': 0.5}
    """

    def __init__(self, classes: int, positive: int) -> None:
        super().__init__()
        self.positive = positive
        # a loss that isn't a number must show; so asked, torchmetrics' MeanMetric (1.9) forgets its weights
        self.losses, self.samples = (SumMetric(nan_strategy="disable") for _ in range(2))
        self.accuracy = MulticlassAccuracy(classes, average="micro", validate_args=False)
        self.precision = BinaryPrecision(validate_args=False)
        self.recall = BinaryRecall(validate_args=False)
        self.auc = BinaryAUROC(validate_args=False)

    @torch.no_grad()
    def add(self, logits: Tensor, labels: Tensor, loss: Tensor) -> None:
        """Count a batch: logits (N, classes), labels (N,), the mean loss over it."""
        probabilities, chosen = logits.detach().float().softmax(dim=1), logits.argmax(dim=1)
        wanted = (labels == self.positive).long()
        self.losses.update(loss.detach().float() * len(labels))
        self.samples.update(len(labels))
        self.accuracy.update(chosen, labels)
        for metric in (self.precision, self.recall):
            metric.update((chosen == self.positive).long(), wanted)
        self.auc.update(probabilities[:, self.positive], wanted)

    def scores(self) -> dict[str, float]:
        """The scores by name, and start anew."""
        loss = float(self.losses.compute() / self.samples.compute())
        scores = {"loss": loss, **{name: float(getattr(self, name).compute()) for name in SCORES[1:]}}
        for metric in (self.losses, self.samples, *(getattr(self, name) for name in SCORES[1:])):
            metric.reset()
        return scores
