"""The token embedding, which is the output projection too, with one gradient for both uses.

Left to autograd, the embedding's gradient is an array of its own, as large as the table (106 MB for
Whisper base), that is cleared, filled at a few rows, and added to the output projection's.
"""

from typing import Any

import torch


class _Tied(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, table: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(tokens)
        return table[tokens], table.view_as(table)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        (tokens,) = ctx.saved_tensors
        of_rows, of_table = grads
        # In place: nobody else holds the gradient that the loss has just made.
        return of_table.index_put_((tokens,), of_rows.to(of_table.dtype), accumulate=True), None


def embed(table: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Look tokens up, and return the table as the output projection is to use it.

    The gradient is that of `table[tokens]` and of `table`; both results must be used once, the
    second by `loss.cross_entropy`. On a GPU the plain way is taken: there it costs little and
    gives the same sum in each run.

    Args:
        table: `(vocabulary, d_model)` float.
        tokens: `(batch, tokens)` long.

    Returns:
        `(batch, tokens, d_model)` and `(vocabulary, d_model)`.
    """
    if table.device.type == "cpu" and table.requires_grad and torch.is_grad_enabled():
        rows, alias = _Tied.apply(table, tokens)
        return rows, alias
    return torch.nn.functional.embedding(tokens, table), table
