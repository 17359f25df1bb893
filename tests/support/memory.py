"""Peak memory of a network, from the tensors of a real forward pass."""

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

#: Operations that a device runs in place, or that only change how a tensor is seen.
_SAME = ("batch_norm", "relu", "transpose", "permute", "squeeze", "clone", "contiguous", "view", "aten::t")


class _Trace(TorchDispatchMode):
    """Collects which buffers each operation reads and writes."""

    def __init__(self, network: nn.Module, x: torch.Tensor):
        self._fixed = {p.untyped_storage()._cdata for p in (*network.parameters(), *network.buffers())}
        self._kept, self._alias = [x], {}
        self.values = {self.buffer(x): x.numel()}
        self.uses: list[tuple[set[int], int]] = []  # read buffers, written buffer

    def buffer(self, tensor: torch.Tensor) -> int:
        key = tensor.untyped_storage()._cdata
        while self._alias.get(key, key) != key:
            key = self._alias[key]
        return key

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        out = result[0] if isinstance(result, tuple) else result
        self._kept.append(out)
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        read = {self.buffer(t) for t in tensors if t.untyped_storage()._cdata not in self._fixed}
        if not read:
            return result  # a view of a weight
        if any(part in func.name() for part in _SAME):
            assert len(read) == 1 and out.numel() <= self.values[next(iter(read))]
            if out.untyped_storage()._cdata not in read:
                self._alias[out.untyped_storage()._cdata] = next(iter(read))
        else:
            self.values[self.buffer(out)] = out.numel()
            self.uses.append((read, self.buffer(out)))
        return result


@torch.no_grad()
def traced_peak(network: nn.Module, frames: int, mels: int, size: int) -> int:
    """Return the bytes of weights, and of all buffers that are alive at once in a forward pass.

    Weights and activations have `size` bytes, biases four; BatchNorm after a convolution becomes a bias.
    """
    network = network.eval().to("meta")
    x = torch.empty(1, frames, mels, device="meta")
    with _Trace(network, x) as trace:
        network(x)
    born = {next(iter(trace.values)): -1} | {out: place for place, (_, out) in enumerate(trace.uses)}
    last = {
        buffer: max(p for p, use in enumerate(trace.uses) if buffer in use[0] or buffer == use[1])
        for buffer in trace.values
    }
    alive = max(
        sum(trace.values[buffer] for buffer in trace.values if born[buffer] <= place <= last[buffer])
        for place in range(len(trace.uses))
    )
    weights = biases = 0
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weights += module.weight.numel()
            biases += 0 if module.bias is None else module.bias.numel()
        elif isinstance(module, nn.BatchNorm2d):
            biases += module.num_features * (2 if name == "bn0" else 1)
    return size * (alive + weights) + 4 * biases
