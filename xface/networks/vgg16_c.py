"""VGG's configuration C, with three 1x1 convolutions (Simonyan and Zisserman 2014, arXiv:1409.1556)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

# Table 1, column C: (width, kernel) of each convolution, a row per stage; a max pooling ends each row
STAGES = (
    ((64, 3), (64, 3)),
    ((128, 3), (128, 3)),
    ((256, 3), (256, 3), (256, 1)),
    ((512, 3), (512, 3), (512, 1)),
    ((512, 3), (512, 3), (512, 1)),
)
GRID = 7  # the side of the last map at 224 px, for which the first dense layer is made


class Vgg16C(nn.Module):
    """VGG-16 in configuration C: (N, 3, 224, 224) -> (N, num_classes) logits.

    Source: Simonyan and Zisserman 2014, table 1. Thirteen convolutions in five stages, each stage ended by
    2x2 max pooling; the last convolution of stages 3 to 5 is 1x1, where VGG-16 (configuration D) has 3x3.
    Then two dense layers, `widths` wide, with ReLU and dropout 0.5, and the layer of the classes. With widths
    (4096, 4096) and 1000 classes it has 133,638,952 parameters, the 134 million of table 2; the widths by
    default, 1024 and 2048, are those that were used for face forgery.

    Modules are named as in torchvision's `vgg16`: the last map of each resolution is `features.3`, `.8`,
    `.15`, `.22`, `.29`, the layer of the classes `classifier.6`. As there, the maps are averaged to 7x7,
    which changes nothing at 224 px and lets other sizes through. Weights start as He et al. 2015 say for the
    convolutions and from a normal distribution of standard deviation 0.01 for the dense layers, biases at 0.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     logits = Vgg16C(num_classes=2)(torch.empty(1, 3, 224, 224))
        >>> logits.shape
        torch.Size([1, 2])
    """

    def __init__(self, num_classes: int = 2, widths: tuple[int, int] = (1024, 2048)) -> None:
        super().__init__()
        self.features = _features()
        self.avgpool = nn.AdaptiveAvgPool2d(GRID)
        self.flatten = nn.Flatten()
        self.classifier = _classifier(widths, num_classes)
        self.apply(_start)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of images of 32 x 32 pixels or more."""
        return self.classifier(self.flatten(self.avgpool(self.features(x))))  # type: ignore[no-any-return]


def _features() -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for stage in STAGES:
        for width, kernel in stage:
            layers += [nn.Conv2d(channels, width, kernel, padding=kernel // 2), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def _classifier(widths: tuple[int, int], num_classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for wide, width in pairwise((STAGES[-1][-1][0] * GRID**2, *widths)):
        layers += [nn.Linear(wide, width), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))


def _start(module: nn.Module) -> None:
    """Draw a layer's first weights: without batch norm, torch's defaults would let the signal die out."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
    if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
        nn.init.zeros_(module.bias)
