"""The frozen layers of a language model, shared out over processes while it is trained."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from semid.distributed import distributed_state


class SharedLayers:
    """The layers of a decoder, of whose frozen weights each process holds a part (FSDP2).

    A layer is put together from all processes when it is run, forwards and backwards, and given up
    behind it. So all of them have to run it equally often. What is trained is whole on each
    process, and so are the embeddings and the output matrix, which are looked into without being
    run.

    Args:
        decoder: Of a ``transformers`` language model, on the device of this process; changed in
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
        # Else the backward pass asks for what ran before it, which is not the same on all processes
        # where only some had anything to decode, and they wait for each other forever.
        for before, module in pairwise(self._modules):
            module.set_modules_to_backward_prefetch([before])

    def gather(self) -> None:
        """Have every layer whole on this process, which may then run them as often as it likes."""
        for module in self._modules:
            module.set_reshard_after_forward(False, recurse=False)
            module.unshard()

    def share_out(self) -> None:
        """Keep this process's part alone."""
        for module in self._modules:
            module.set_reshard_after_forward(True, recurse=False)
            module.reshard()
