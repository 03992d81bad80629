"""Keras, Lightning and transformers: a small network each, with their own callbacks."""

from __future__ import annotations

import json
import sys
import tempfile

import keras
import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

import stemma

torch.set_num_threads(1)
generator = np.random.default_rng(7)
features = generator.normal(size=(64, 8)).astype(np.float32)
labels = (features.sum(axis=1) > 0).astype(np.int64)
ids = {}

with stemma.run("keras-net") as run:
    network = keras.Sequential([keras.layers.Dense(2, activation="softmax")])
    network.compile(keras.optimizers.Adam(learning_rate=0.01), "sparse_categorical_crossentropy")
    network.fit(features, labels, epochs=3, verbose=0, callbacks=[run.callback("keras")])
    network.save("network.keras")
    run.model("network.keras")
    ids["keras"] = run.id


class Net(lightning.LightningModule):
    """One layer."""

    def __init__(self, width: int) -> None:
        """Keep the width as a hyperparameter."""
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(width, 2)

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        """Log the loss of each step."""
        loss = torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Take plain descent."""
        return torch.optim.SGD(self.parameters(), lr=0.1)


with stemma.run("lightning-net") as run:
    loader = DataLoader(
        TensorDataset(torch.from_numpy(features), torch.from_numpy(labels)), batch_size=16
    )
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=run.callback("lightning"),
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    net = Net(8)
    trainer.fit(net, loader)
    run.model(net.layer)
    ids["lightning"] = run.id

with stemma.run("bert-net") as run:
    rows = [
        {"input_ids": torch.randint(0, 50, (6,)), "labels": torch.tensor(number % 2)}
        for number in range(16)
    ]
    bert = BertForSequenceClassification(
        BertConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=4,
            logging_steps=1,
            learning_rate=0.003,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        )
        Trainer(
            bert, arguments, train_dataset=rows, callbacks=[run.callback("transformers")]
        ).train()
    run.model(bert)
    ids["transformers"] = run.id
sys.stdout.write(json.dumps(ids) + "\n")
