"""MesoNet's Meso-4, a small network for face forgery (Afchar et al. 2018, arXiv:1809.00888)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

EPS = 1e-3  # Keras' default for BatchNormalization, with which the published weights were trained


def _block(channels_in: int, channels_out: int, kernel: int, pool: int) -> nn.Sequential:
    """Convolution, ReLU, *then* BatchNorm, max pooling: the paper's order."""
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(channels_in, channels_out, kernel, padding="same"),
            relu=nn.ReLU(),
            norm=nn.BatchNorm2d(channels_out, eps=EPS),
            pool=nn.MaxPool2d(pool),
        )
    )


class Meso4(nn.Module):
    """Meso-4: (N, 3, 256, 256) RGB in [0, 1] -> (N, num_classes) logits, without the published sigmoid.

    Four convolution blocks (8 maps of 3x3; 8, 16, 16 of 5x5; pooling 2, 2, 2, 4), then two dense layers on
    the 16 x 8 x 8 maps. With one logit it has the 27,977 parameters of Afchar et al. 2018, table 1. The
    flattening is channels first; a kernel that was trained channels last (Keras) needs its columns permuted.

    Example:
        >>> import torch
        >>> Meso4(num_classes=1).eval()(torch.zeros(2, 3, 256, 256)).shape
        torch.Size([2, 1])
    """

    def __init__(self, num_classes: int = 1) -> None:
        super().__init__()
        self.block1 = _block(3, 8, kernel=3, pool=2)
        self.block2 = _block(8, 8, kernel=5, pool=2)
        self.block3 = _block(8, 16, kernel=5, pool=2)
        self.block4 = _block(16, 16, kernel=5, pool=4)
        self.dense = nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),
                drop1=nn.Dropout(0.5),
                hidden=nn.Linear(16 * 8 * 8, 16),
                rectifier=nn.LeakyReLU(0.1),
                drop2=nn.Dropout(0.5),
                head=nn.Linear(16, num_classes),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of 256 x 256 faces."""
        for block in (self.block1, self.block2, self.block3, self.block4):
            x = block(x)
        return self.dense(x)  # type: ignore[no-any-return]
