"""The forward and backward passes behind the probes; what they give is arrays.

Shape suffixes: N examples, B examples of a batch, T tokens, L layers, A attention heads, H hidden units, P parameters.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trainer.architectures import read_inputs
from trainer.embeddings import cut, renumbered, used_tokens
from trainer.encoding import Encoded
from trainer.errors import UserError, first_line
from trainer.kernels import quicken
from trainer.loop import Examples, taken
from trainer.packing import prepare
from trainer.probes.models import Model

if TYPE_CHECKING:
    from trainer.objectives import Objective

EAGER = "eager"  # the implementation of attention that gives its maps


class Passes:
    """A model, and the examples that it reads.

    Word embeddings have the rows of the examples' tokens alone: no other row takes part in any pass.

    Args:
        model: what to build; its dropout is off until :meth:`dropout` says otherwise.
        encoded: N examples, with ``labels_N``.
        objective: what the loss is.
        of_first_token: whether nothing is asked but what hangs on the last layer's first token, as the loss does;
            on a CPU it then comes faster, as in training.
        attention: ``eager``, or None for the fastest that there is.
        dtype: of weights and passes.

    Raises:
        UserError: when the model cannot be read, or has no such attention.
    """

    def __init__(
        self,
        model: Model,
        encoded: Encoded,
        labels_N: np.ndarray,
        objective: "Objective",
        *,
        of_first_token: bool = False,
        attention: str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing reads it
        self.label, self.objective = model.label, objective
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        net: Any = model.build(objective.num_outputs)
        self.takes = read_inputs(net.config)
        used_U = used_tokens([encoded])
        cut(net, used_U)
        is_quick = self.device.type == "cpu" and dtype == torch.float32
        is_packed = is_quick and of_first_token and self.takes.reads_first_token
        if attention is not None:
            self._set_attention(net, attention)
        if is_packed:
            prepare(net, self.takes)
        elif is_quick:
            quicken(net)
        self.net = net.to(self.device, dtype)
        encoded = renumbered({"": encoded}, used_U)[""]
        self.examples = Examples(encoded, objective.targets(labels_N), self.device, is_packed=is_packed)

    def _set_attention(self, net: Any, attention: str) -> None:
        try:
            net.set_attn_implementation(attention)
        except ValueError as error:
            raise UserError(
                f"models: {self.label!r} has no {attention} attention ({first_line(error)}); give another model"
            ) from None

    def _inputs(self, rows_B: np.ndarray) -> tuple[dict[str, Any], torch.Tensor]:
        inputs, targets_B = self.examples.batch(torch.from_numpy(rows_B))
        return taken(self.takes, inputs), targets_B

    def _array(self, values: torch.Tensor) -> np.ndarray:
        """What a pass gives.

        Raises:
            UserError: where it is not finite.
        """
        array: np.ndarray = values.numpy(force=True)
        if not np.isfinite(array).all():
            raise UserError(f"models: {self.label!r} gives numbers that are not finite; leave it out, it has diverged")
        return array

    @torch.no_grad()
    def hidden_states(self, rows_B: np.ndarray) -> list[np.ndarray]:
        """(tokens, H) of the embeddings' output and of each layer: of every token that is no padding, in order."""
        inputs, _ = self._inputs(rows_B)
        states = self.net.base_model(**inputs, output_hidden_states=True).hidden_states
        is_real_BT = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).bool()
        return [self._array(layer_BTH[is_real_BT]) for layer_BTH in states]

    @torch.no_grad()
    def attention_maps(self, row: int) -> np.ndarray:
        """(L, A, T, T): how much each token (rows, which sum to 1) attends to each, in one example.

        Raises:
            UserError: when the model does not give them.
        """
        maps = self.net.base_model(**self._inputs(np.array([row]))[0], output_attentions=True).attentions
        if not maps or any(layer is None for layer in maps):
            raise UserError(
                f"models: {self.label!r} gives no attention maps; give a model whose layers are all attention"
            )
        return self._array(torch.cat(maps))

    def jacobian(self, row: int) -> np.ndarray:
        """(H, T * H'): of the last layer's first token with respect to the word embeddings of one example's tokens.

        Row by row: what one backward pass needs stays in a processor's cache, and goes through the fast kernels; many
        at once (``torch.func.jacrev``) do neither.
        """
        inputs, _ = self._inputs(np.array([row]))
        self.net.requires_grad_(False)  # else each pass would see to the weights' gradients too
        embedded_1TH = self.net.get_input_embeddings()(inputs.pop("input_ids"))
        length = int(self.examples.lengths_N[row])  # what fills a packed row comes after it

        def first_token(given_1TH: torch.Tensor) -> torch.Tensor:
            output_H: torch.Tensor = self.net.base_model(inputs_embeds=given_1TH, **inputs).last_hidden_state[0, 0]
            return output_H

        output_H, pull_back, *_ = torch.func.vjp(first_token, embedded_1TH)
        rows = [
            pull_back(unit_H, retain_graph=True)[0][0, :length].flatten()
            for unit_H in torch.eye(len(output_H)).to(output_H)
        ]
        return self._array(torch.stack(rows))

    def gradient(self, rows_B: np.ndarray) -> np.ndarray:
        """(P,) of the mean loss of a minibatch, with respect to all parameters."""
        inputs, targets_B = self._inputs(rows_B)
        self.net.zero_grad()
        self.objective.loss(self.net(**inputs).logits, targets_B).backward()
        parts = [parameter.grad for parameter in self.net.parameters() if parameter.grad is not None]
        return self._array(torch.cat([part.flatten() for part in parts]))

    @property
    def num_parameters(self) -> int:
        """How many numbers a gradient has at most."""
        return sum(parameter.numel() for parameter in self.net.parameters())

    @torch.no_grad()
    def first_tokens(self, rows_B: np.ndarray) -> np.ndarray:
        """(B, H): the last layer's output for each example's first token."""
        return self._array(self.net.base_model(**self._inputs(rows_B)[0]).last_hidden_state[:, 0])

    @contextmanager
    def noise(self, std: float, seed: int) -> Iterator[None]:
        """Inside the block every parameter has Gaussian noise added; then it is what it was before, bit for bit."""
        parameters = [parameter.detach() for parameter in self.net.parameters()]
        before = [parameter.clone() for parameter in parameters]
        generator = torch.Generator().manual_seed(seed)
        try:
            for parameter in parameters:
                drawn = torch.randn(parameter.shape, generator=generator)  # on the CPU: the same on every device
                parameter.add_(drawn.to(self.device), alpha=std)
            yield
        finally:
            for parameter, value in zip(parameters, before, strict=True):
                parameter.copy_(value)

    @contextmanager
    def dropout(self, is_on: bool, seed: int) -> Iterator[None]:
        """Inside the block dropout is on, if at all, with masks drawn by a seed.

        Raises:
            UserError: when it is to be on, and the model has none.
        """
        layers = [module for module in self.net.modules() if isinstance(module, torch.nn.Dropout)]
        if is_on and not any(layer.p for layer in layers):
            raise UserError(f"dropout: true is not allowed, {self.label!r} has no dropout in its config; leave it out")
        self.net.train(is_on)
        try:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                yield
        finally:
            self.net.eval()
