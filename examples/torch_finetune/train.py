"""Train from scratch, fine-tune a released version, or train another architecture.

From scratch: ``python train.py``.
Fine-tune: ``python train.py --base digits-net@1.0.0 --lr 3e-3 --epochs 10``.
Another architecture: ``python train.py --wide``.
"""

import argparse

import torch
from network import DigitsNet, WideDigitsNet
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import stemma

parser = argparse.ArgumentParser()
parser.add_argument("--base", default="", help="ref of the version to start from")
parser.add_argument("--lr", type=float, default=1e-2)
parser.add_argument("--epochs", type=int, default=12)
parser.add_argument("--wide", action="store_true", help="train the other architecture")
arguments = parser.parse_args()

torch.manual_seed(0)
torch.set_num_threads(1)
images, labels = load_digits(return_X_y=True)
images = (images / 16).astype("float32").reshape(-1, 1, 8, 8)
train_x, test_x, train_y, test_y = train_test_split(
    images, labels, test_size=0.4, random_state=0, stratify=labels
)

with stemma.run("digits-net") as run:
    run.data("digits-train", (train_x, train_y), preprocessing=["divide by 16", "to float32"])
    run.params(epochs=arguments.epochs, batch_size=64, seed=0, base=arguments.base)
    model = WideDigitsNet() if arguments.wide else DigitsNet()
    if arguments.base:
        stemma.load(arguments.base, into=model)
    optimizer = torch.optim.SGD(model.parameters(), lr=arguments.lr, momentum=0.9)
    inputs, targets = torch.from_numpy(train_x), torch.from_numpy(train_y)
    for epoch in range(arguments.epochs):
        model.train()
        total = 0.0
        for batch in torch.randperm(len(inputs)).split(64):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs[batch]), targets[batch])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        run.log(step=epoch, loss=total / len(inputs))
    run.model(model.eval(), optimizer=optimizer, test=(test_x, test_y))
