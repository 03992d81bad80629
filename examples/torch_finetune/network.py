"""The network: a small convolutional classifier for 8x8 digits."""

import torch
from torch import nn


class DigitsNet(nn.Module):
    """Two convolutions and a linear head; input (n, 1, 8, 8) float32, output (n, 10) logits."""

    def __init__(self, width: int = 16) -> None:
        """Make the layers."""
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.head = nn.Linear(width * 16, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        return self.head(self.features(images).flatten(1))


class WideDigitsNet(nn.Module):
    """A redesign: fully connected, with dropout."""

    def __init__(self, width: int = 128) -> None:
        """Make the layers."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, 10)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        return self.layers(images)
