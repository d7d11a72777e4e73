"""The frequency attention network: Xception that also reconstructs the face and looks at its spectrum.

It joins three published ideas: reconstruction and the attention it guides (RECCE, Cao et al. 2022, CVPR),
a learnable filter of the spectrum and its fusion with the RGB features (M2TR, Wang et al. 2021,
arXiv:2104.09770), and frequency as the place where forgeries show (F3-Net, Qian et al. 2020,
arXiv:2007.09355). Its training losses are in `freq_losses`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.models.xception import Block, SeparableConv2d, Xception
from torch import Tensor, fx, nn

WIDTH = 728  # channels of Xception's middle flow, blocks 4 to 11
MAP_SIZE = (19, 19)  # of the middle flow at 299 x 299
FUSIONS = 4
DROPOUT = 0.2
NOISE = 1e-6
SLOPE = 0.2  # of M2TR's leaky rectifiers


@dataclass(frozen=True)
class Outputs:
    """One forward pass with all that the training losses need.

    `logits` (N, num_classes); `reconstruction` (N, 3, H, W) in [-1, 1]; `features`, for the metric loss: the
    embedding (N, 728, 19, 19), the decoder's maps (N, 256, 38, 38) and (N, 128, 76, 76).
    """

    logits: Tensor
    reconstruction: Tensor
    features: tuple[Tensor, Tensor, Tensor]


@fx.wrap  # type: ignore[untyped-decorator, unused-ignore]
def filtered(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply the spectrum of each channel by a filter: irfft2(rfft2(x) * weight), orthonormal.

    The global filter of Rao et al. 2021 (arXiv:2107.00645), as M2TR uses it. `x` is (N, C, h, w), `weight`
    (h, w // 2 + 1, C, 2) with real and imaginary parts last; half precision is computed in single. Raises
    RuntimeError for maps that aren't of the filter's size.

    Example:
        >>> one = torch.stack([torch.ones(4, 3, 2), torch.zeros(4, 3, 2)], dim=-1)
        >>> x = torch.rand(1, 2, 4, 5)
        >>> torch.allclose(filtered(x, one), x, atol=1e-6)
        True
    """
    height, width = x.shape[-2:]
    if (height, width // 2 + 1) != weight.shape[:2]:
        raise RuntimeError(
            f"the frequency filter has {weight.shape[0]} x {weight.shape[1]} frequencies, maps of "
            f"{height} x {width} have {height} x {width // 2 + 1}: give images of the size it was made for"
        )
    precise = torch.promote_types(x.dtype, torch.float32)
    response = torch.view_as_complex(weight.to(precise).contiguous()).permute(2, 0, 1)
    spectrum = torch.fft.rfft2(x.to(precise), norm="ortho")
    maps: Tensor = torch.fft.irfft2(spectrum * response, s=(height, width), norm="ortho")
    return maps.to(x.dtype)


def noisy(x: Tensor) -> Tensor:
    """Add white noise of standard deviation 1e-6 to about half of the images, and clip all to [-1, 1].

    As RECCE trains its encoder; each image (3, H, W) of the batch gets the noise with probability 1/2.

    Example:
        >>> bool(noisy(torch.zeros(8, 3, 16, 16)).abs().amax() < 1e-5)
        True
    """
    chosen = (torch.rand_like(x[:, :1, :1, :1]) < 0.5).to(x.dtype)
    return (x + NOISE * torch.randn_like(x) * chosen).clamp(-1, 1)


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)  # as in RECCE


def _normalised(channels: int, kernel: int, rectifier: nn.Module) -> nn.Sequential:
    """Convolution of equal width, BatchNorm, rectifier."""
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False),
            norm=nn.BatchNorm2d(channels),
            rectifier=rectifier,
        )
    )


def _upsampled(channels_in: int, channels_out: int) -> nn.Sequential:
    """Twice the side by nearest neighbours, separable 3x3 convolution, BatchNorm, ReLU."""
    return nn.Sequential(
        OrderedDict(
            upsample=nn.Upsample(scale_factor=2, mode="nearest"),
            conv=SeparableConv2d(channels_in, channels_out, 3, padding=1),
            norm=nn.BatchNorm2d(channels_out),
            relu=nn.ReLU(),
        )
    )


class Decoder(nn.Module):
    """Paint the face from the embedding: (N, 728, h, w) -> maps of 256, 128 and 3 channels, 2h, 4h, 8h high.

    RECCE's decoder, section 3.2 of Cao et al. 2022.

    Example:
        >>> [tuple(maps.shape) for maps in Decoder().eval()(torch.zeros(1, 728, 2, 2))]
        [(1, 256, 4, 4), (1, 128, 8, 8), (1, 3, 16, 16)]
    """

    def __init__(self) -> None:
        super().__init__()
        self.up1, self.block1 = _upsampled(WIDTH, 256), Block(256, 256, 3)
        self.up2, self.block2 = _upsampled(256, 128), Block(128, 128, 3)
        self.up3 = _upsampled(128, 64)
        self.paint = nn.Sequential(OrderedDict(conv=nn.Conv2d(64, 3, 1, bias=False), tanh=nn.Tanh()))

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The maps of 256 channels, those of 128, and the painted face in [-1, 1]."""
        wide = self.block1(self.up1(embedding))
        narrow = self.block2(self.up2(wide))
        return wide, narrow, self.paint(self.up3(narrow))


class FrequencyFilter(nn.Module):
    """A learnable filter of the maps' spectrum, see `filtered`: (N, C, h, w) -> (N, C, h, w).

    The weights, drawn from a normal distribution of standard deviation 0.02, are a real parameter
    (h, w // 2 + 1, C, 2), so they are saved, trained and moved like any other.

    Example:
        >>> FrequencyFilter(8, (19, 19)).weight.shape
        torch.Size([19, 10, 8, 2])
    """

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        height, width = size
        self.weight = nn.Parameter(torch.empty(height, width // 2 + 1, channels, 2))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """The filtered maps."""
        return filtered(x, self.weight)


class FrequencyBranch(nn.Module):
    """The maps plus a feed-forward of their filtered copy: (N, C, h, w) -> (N, C, h, w).

    M2TR's frequency block, x + feed_forward(filter(x)), with 1x1 convolutions: each is followed by BatchNorm
    and LeakyReLU 0.2.

    Example:
        >>> FrequencyBranch(8, (4, 4)).eval()(torch.zeros(1, 8, 4, 4)).shape
        torch.Size([1, 8, 4, 4])
    """

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.filter = FrequencyFilter(channels, size)
        self.feed_forward = nn.Sequential(
            *(_normalised(channels, kernel=1, rectifier=nn.LeakyReLU(SLOPE)) for _ in range(2))
        )

    def forward(self, x: Tensor) -> Tensor:
        """The frequency features."""
        return x + self.feed_forward(self.filter(x))  # type: ignore[no-any-return]


class CrossModalityFusion(nn.Module):
    """Let each RGB position ask the frequency features of all positions: two (N, C, h, w) -> (N, C, h, w).

    M2TR's fusion: with q a 1x1 convolution of the RGB features, k and v of the frequency features, position i
    gets sum over j of softmax_j(q_i . k_j / sqrt(C)) v_j; a 3x3 convolution, BatchNorm and LeakyReLU 0.2 of
    these maps are added to the RGB features.

    Example:
        >>> CrossModalityFusion(8).eval()(torch.zeros(1, 8, 3, 4), torch.zeros(1, 8, 3, 4)).shape
        torch.Size([1, 8, 3, 4])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = channels**-0.5
        self.query, self.key, self.value = (nn.Conv2d(channels, channels, 1) for _ in range(3))
        self.project = _normalised(channels, kernel=3, rectifier=nn.LeakyReLU(SLOPE))

    def forward(self, rgb: Tensor, frequency: Tensor) -> Tensor:
        """The RGB features with what they found in the frequency features."""
        query, key, value = (
            layer(maps).flatten(2)
            for layer, maps in ((self.query, rgb), (self.key, frequency), (self.value, frequency))
        )
        attention = (query.transpose(1, 2) @ key * self.scale).softmax(dim=-1)
        found = (value @ attention.transpose(1, 2)).reshape(rgb.shape)
        return rgb + self.project(found)  # type: ignore[no-any-return]


class GuidedAttention(nn.Module):
    """Look again where the reconstruction is wrong: (N, C, h, w) -> (N, C, h, w).

    RECCE's attention, gate(|image - reconstruction| resized to h x w) * copy(x) + dropout(x): the gate is a
    3x3 convolution of the 3 channels, ReLU, a 1x1 convolution to one map, sigmoid; the copy a 1x1
    convolution, BatchNorm, ReLU.

    Example:
        >>> face = torch.zeros(1, 3, 16, 16)
        >>> GuidedAttention(8).eval()(torch.ones(1, 8, 4, 4), face, face).shape
        torch.Size([1, 8, 4, 4])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(3, 3, 3, padding=1, bias=False),
                relu=nn.ReLU(),
                mix=nn.Conv2d(3, 1, 1, bias=False),
                sigmoid=nn.Sigmoid(),
            )
        )
        self.copy = _normalised(channels, kernel=1, rectifier=nn.ReLU())
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor, image: Tensor, reconstruction: Tensor) -> Tensor:
        """The features, those where the reconstruction fails raised."""
        gate = self.gate(_resized((image - reconstruction).abs(), like=x))
        return gate * self.copy(x) + self.drop(x)  # type: ignore[no-any-return]


class FreqAttention(nn.Module):
    """Frequency attention network: (N, 3, 299, 299) RGB in [-1, 1] -> (N, num_classes) logits.

    Xception (Chollet 2017; `encoder` takes the weights of timm's `legacy_xception`) with a decoder after
    block 4, a frequency branch and four fusions after block 7, reconstruction-guided attention after block 8.
    Noise and dropout act in training only, and the learnt filter is a weight: in eval mode equal images get
    equal logits. Other sizes than 299 x 299 raise RuntimeError unless their middle maps are 19 x 19 too.

    Example:
        >>> outputs = FreqAttention().eval().outputs(torch.zeros(1, 3, 299, 299))
        >>> outputs.logits.shape, outputs.reconstruction.shape
        (torch.Size([1, 2]), torch.Size([1, 3, 299, 299]))
    """

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__()
        self.encoder = Xception(num_classes=0)
        self.decoder_drop, self.decoder = nn.Dropout(DROPOUT), Decoder()
        self.frequency = FrequencyBranch(WIDTH, MAP_SIZE)
        self.fusion = nn.ModuleList(CrossModalityFusion(WIDTH) for _ in range(FUSIONS))
        self.guidance = GuidedAttention(WIDTH)
        self.head_drop, self.head = nn.Dropout(DROPOUT), nn.Linear(self.encoder.num_features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of 299 x 299 faces."""
        return self.outputs(x).logits

    def outputs(self, x: Tensor) -> Outputs:
        """Logits, reconstruction and metric features of a batch of 299 x 299 faces."""
        embedding = self._encoded(noisy(x) if self.training else x, "conv1", "block4")
        wide, narrow, painted = self.decoder(self.decoder_drop(embedding))
        reconstruction = _resized(painted, like=x)
        fused = self._fused(self._encoded(embedding, "block5", "block7"))
        guided = self.guidance(self._encoded(fused, "block8", "block8"), x, reconstruction)
        pooled = self._encoded(guided, "block9", "fc")  # without classes, its `fc` is an identity
        return Outputs(self.head(self.head_drop(pooled)), reconstruction, (embedding, wide, narrow))

    def _encoded(self, x: Tensor, first: str, last: str) -> Tensor:
        """Run the encoder's modules from `first` to `last`: timm lists them in the order of its forward."""
        names = [name for name, _ in self.encoder.named_children()]
        for name in names[names.index(first) : names.index(last) + 1]:
            x = getattr(self.encoder, name)(x)
        return x

    def _fused(self, rgb: Tensor) -> Tensor:
        frequency = self.frequency(rgb)
        for fuse in self.fusion:
            rgb = fuse(rgb, frequency)
        return rgb
