"""Shard the frozen layers of a language model over processes during training."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from semid.distributed import distributed_state


class SharedLayers:
    """The layers of a decoder, with frozen weights sharded over processes (FSDP2).

    A layer is gathered from all processes whenever it runs, forward and backward, and freed
    afterwards, so all processes must run it equally often. Trained weights are replicated, and so
    are the embeddings and the output matrix, which are read without being run as layers.

    Args:
        decoder: Decoder of a ``transformers`` language model, on this process's device; changed in
            place.
    """

    def __init__(self, decoder: Any) -> None:
        here = distributed_state()
        mesh = init_device_mesh(here.device.type, (here.num_processes,))
        lists = [child for child in decoder.children() if isinstance(child, nn.ModuleList)]
        layers = [layer for its in lists for layer in its]
        inside = {id(weight) for layer in layers for weight in layer.parameters()}
        whole = {
            weight
            for weight in decoder.parameters()
            if weight.requires_grad or id(weight) not in inside
        }
        for module in (*layers, decoder):
            fully_shard(module, mesh=mesh, ignored_params=whole)
        self._modules = [module for module in decoder.modules() if isinstance(module, FSDPModule)]
        # By default the backward pass prefetches in the order of the last forward passes. These
        # differ between processes if only some had anything to decode, which would deadlock.
        for before, module in pairwise(self._modules):
            module.set_modules_to_backward_prefetch([before])

    def gather(self) -> None:
        """Gather every layer, so that this process may run them any number of times."""
        for module in self._modules:
            module.set_reshard_after_forward(False, recurse=False)
            module.unshard()

    def share_out(self) -> None:
        """Keep only this process's shard."""
        for module in self._modules:
            module.set_reshard_after_forward(True, recurse=False)
            module.reshard()
