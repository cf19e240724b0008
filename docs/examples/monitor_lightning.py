"""Watching curvature in a training by lightning: a callback, which holds the monitor."""

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import vivit


class CurvatureCallback(lightning.Callback):
    """Calls a monitor after each step of the optimizer."""

    def __init__(self, loss_func, held_out, **options):
        self.loss_func, self.held_out, self.options = loss_func, held_out, options
        self.monitor = None

    def on_train_start(self, trainer, pl_module):
        if trainer.is_global_zero:  # of several processes, one looks
            batch = tuple(x.to(pl_module.device) for x in self.held_out)
            self.monitor = vivit.Monitor(pl_module, self.loss_func, batch, **self.options)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if self.monitor is not None:
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            self.monitor(trainer.global_step, learning_rate=rate)

    def on_train_end(self, trainer, pl_module):
        if self.monitor is not None:
            print(f"{self.monitor.seconds:.1f} s, {self.monitor.share:.0%} of the time")


class Classifier(lightning.LightningModule):
    """Any module whose ``forward`` gives the outputs that the loss takes."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
        self.loss_func = nn.CrossEntropyLoss()

    def forward(self, x):
        return self.layers(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return self.loss_func(self(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


torch.manual_seed(0)
X, y = torch.randn(512, 10), torch.randint(4, (512,))
model = Classifier()
callback = CurvatureCallback(model.loss_func, (X[:64], y[:64]), every=5, path="run.jsonl")
trainer = lightning.Trainer(
    max_epochs=2,
    accelerator="cpu",
    callbacks=[callback],
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(model, DataLoader(TensorDataset(X[64:], y[64:]), batch_size=32))
for seen in vivit.monitor.read("run.jsonl"):
    print(f"step {seen.step}: largest eigenvalue {seen.quantities['eigenvalues'][0]:.2f}")
