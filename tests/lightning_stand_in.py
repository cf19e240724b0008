"""As much of lightning as the example uses, so that the tests do not need it."""

from torch import nn


class Callback:
    pass


class LightningModule(nn.Module):
    @property
    def device(self):
        return next(self.parameters()).device


class Trainer:
    """Trains, and calls its callbacks as lightning does."""

    is_global_zero = True

    def __init__(self, max_epochs, accelerator, callbacks, **options):
        self.epochs, self.callbacks, self.options = max_epochs, callbacks, options
        self.global_step = 0

    def fit(self, module, loader):
        self.optimizers = [module.configure_optimizers()]
        self._call("on_train_start", module)
        for _ in range(self.epochs):
            for index, batch in enumerate(loader):
                self.optimizers[0].zero_grad()
                loss = module.training_step(batch, index)
                loss.backward()
                self.optimizers[0].step()
                self.global_step += 1
                self._call("on_train_batch_end", module, loss, batch, index)
        self._call("on_train_end", module)

    def _call(self, name, *arguments):
        for callback in self.callbacks:
            getattr(callback, name)(self, *arguments)
