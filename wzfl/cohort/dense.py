"""Networks of dense layers, with a ReLU after each but the last."""

from functools import lru_cache

from torch import nn


@lru_cache(maxsize=16)
def dense_layers(network: nn.Module) -> tuple[nn.Linear, ...]:
    """The linear layers of such a network, which may flatten its inputs first; none of any other network."""
    if not isinstance(network, nn.Sequential):
        return ()
    layers = tuple(layer for layer in network if type(layer) is nn.Linear)
    kinds = [type(layer) for layer in network]
    expected = [nn.Linear, nn.ReLU] * len(layers)
    return layers if kinds[kinds[:1] == [nn.Flatten] :] == expected[:-1] else ()
