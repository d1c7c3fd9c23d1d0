"""Where the order of features differs: ldl flattens images (H, W, C), PyTorch (C, H, W).

A model is gone through in the order in which it computes, with what is known of the features on
their way. So it shows which tensors have an axis along which PyTorch orders otherwise: those of a
layer that is given flattened images, and those of a layer whose outputs are made images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ldl import nn
from ldl.io.torch.flow import MIXED, PLAIN, Flow, Turn
from ldl.io.torch.layers import Part, Tensors
from ldl.nn.images import Windowed
from ldl.nn.module import Module
from ldl.nn.recurrent import _Recurrent
from ldl.numbers import positive_integer

_IMAGES = (
    *(Windowed, nn.Upsample, nn.ZeroPad, nn.Dropout2d, nn.BatchNorm2d, nn.InstanceNorm),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d),
)
_SEQUENCES = (nn.Embedding, nn.PositionalEncoding, nn.MultiHeadAttention, nn.TransformerBlock)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)


class Order:
    """The turns of a model.

    `channels` are those of the images that the model is given, or by a layer's name those of the
    images from which its features were flattened.
    """

    def __init__(self, model: Module, channels: int | Mapping[str, int] | None = None) -> None:
        self.turns: list[Turn] = []
        self._rows: dict[int, int | None] = {}
        """The channels of the flattened images that the weights of Linears are given."""
        given = channels if isinstance(channels, Mapping) else {}
        self._said = {name: positive_integer("channels", n) for name, n in given.items()}
        first = Flow("start", makers=())
        if channels is not None and not isinstance(channels, Mapping):
            first = replace(first, channels=positive_integer("channels", channels))
        names = {name for name, _ in model.named_modules()}
        for name in self._said:
            if name not in names:
                raise ValueError(f"channels names the layer {name!r}, which the model has not")
        self._shaped(self._walk("", model, first), image=None)

    def turned(self, part: Part) -> Part:
        """A layer's part, whose tensors have their features in PyTorch's order."""
        turns = [turn for turn in self.turns if turn.path == part.path]
        given = dict(part.tensors)
        for turn in turns:
            if turn.name in given:
                given[turn.name] = turn.to_torch(given[turn.name])

        def read(tensors: Tensors) -> Tensors:
            found = dict(tensors)
            for turn in reversed(turns):
                if turn.name in found:
                    found[turn.name] = turn.to_ldl(found[turn.name])
            return part.read(found)

        return replace(part, tensors=given, read=read)

    def _walk(self, path: str, layer: Any, flow: Flow) -> Flow:
        """What comes out of a layer."""
        inside = path + "." if path else ""
        if isinstance(layer, (nn.Sequential, nn.AutoEncoder)):
            for name, child in layer.named_children():
                flow = self._walk(inside + name, child, flow)
            return flow
        if isinstance(layer, nn.Residual):
            flow = flow.shared()
            return self._same(path, layer, flow, self._walk(f"{inside}body", layer.body, flow))
        if isinstance(layer, nn.Parallel):
            return self._parallel(path, layer, flow)
        if isinstance(layer, _IMAGES):
            return self._image(layer, self._shaped(flow, image=True))
        if isinstance(layer, (*_SEQUENCES, _Recurrent, nn.GlobalAvgPool)):
            self._shaped(flow, image=isinstance(layer, nn.GlobalAvgPool))
            return PLAIN
        if isinstance(layer, (nn.Linear, nn.TiedLinear)):
            return self._linear(path, layer, flow)
        if isinstance(layer, (nn.BatchNorm1d, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)):
            return self._norm(path, layer, flow)
        if isinstance(layer, nn.Flatten):
            return self._flatten(path, flow)
        if isinstance(layer, nn.Reshape):
            return self._reshape(path, layer, flow)
        if isinstance(layer, nn.Permute):
            return flow.permuted(layer.dims)
        if isinstance(layer, (nn.Activation, nn.Dropout)):
            return self._activation(path, layer, flow)
        return self._own(inside, layer, flow)

    # ---- what leaves the order alone, and images -------------------------------------------------

    def _image(self, layer: Any, flow: Flow) -> Flow:
        if isinstance(layer, _CONVOLUTIONS):
            return Flow("pixels", layer.out_channels)
        own = getattr(layer, "num_features", None)
        return Flow("pixels", own or (flow.channels if flow.kind in ("pixels", "start") else None))

    def _activation(self, path: str, layer: Any, flow: Flow) -> Flow:
        """A PReLU has a slope for each feature; a GLU makes one of two."""
        if isinstance(layer, nn.GLU):
            if flow.kind == "pixels":
                known = flow.channels is not None and layer.axis in (-1, 3)
                return Flow("pixels", flow.channels // 2 if known and flow.channels else None)
            return replace(flow, makers=None) if flow.kind in ("plain", "start") else MIXED
        weight = getattr(layer, "weight", None)
        if weight is None or weight.size == 1:
            return flow
        return self._along(path, layer, ["weight"], flow)

    def _norm(self, path: str, layer: Any, flow: Flow) -> Flow:
        names = ["weight", "bias", "running_mean", "running_var"]
        names = [name for name in names if getattr(layer, name, None) is not None]
        axes = len(getattr(layer, "normalized_shape", (0,)))
        if axes > 1:
            flow = self._shaped(flow, image=axes == 3)
            if flow.kind == "pixels" or axes == 3:
                last = layer.normalized_shape[-1]
                self.turns += [Turn(path, name, None, last) for name in names]
                return Flow("pixels", last)
            return PLAIN if flow.kind == "plain" else flow
        if isinstance(layer, nn.GroupNorm):
            if flow.kind == "mixed" or (flow.kind == "flat" and flow.channels != 1):
                raise ValueError(
                    f"{_called(path, layer)} normalises groups of flattened features, which are "
                    "others in PyTorch: put it in front of Flatten"
                )
            return flow
        return self._along(path, layer, names, flow)

    def _along(self, path: str, layer: Any, names: list[str], flow: Flow) -> Flow:
        """A layer whose tensors have a number for each feature, and that leaves their order."""
        given = self._flat(path, layer, flow)
        if given is not None:
            self._turn(path, layer, names, 0, given)
            return Flow("flat", given)
        if flow.kind == "plain" and flow.makers is not None:
            makers = *flow.makers, *((path, name, 0) for name in names)
            return replace(flow, makers=makers)
        return flow

    # ---- rows ------------------------------------------------------------------------------------

    def _linear(self, path: str, layer: Any, flow: Flow) -> Flow:
        flow = self._shaped(flow, image=False)
        given = self._flat(path, layer, flow)
        if given is not None:
            self._turn(path, layer, ["weight"], 1, given)
        if given is None and flow.kind == "pixels":
            if flow.channels not in (None, layer.in_features):
                raise self._untold(path, layer, "no Flatten stands between it and the images")
            return MIXED
        names = ["weight"] if layer.bias is None else ["weight", "bias"]
        if isinstance(layer, nn.Linear):
            self._rows[id(layer.weight)] = given
        elif (rows := self._rows.get(id(layer.weight))) is not None:  # what the source is given
            self._turn(path, layer, names, 0, rows)
            return Flow("flat", rows)
        return Flow("plain", makers=tuple((path, name, 0) for name in names))

    def _turn(self, path: str, layer: Any, names: list[str], axis: int, channels: int) -> None:
        """Turn tensors of which an axis, in PyTorch's layout, has the features of images."""
        for name in names:
            size = getattr(layer, name).size
            if name == "weight" and axis == 1:
                size = layer.in_features
            elif isinstance(layer, nn.TiedLinear):
                size = layer.out_features
            if size % channels:
                raise ValueError(
                    f"{_called(path, layer)} has {size} features, which are no images of "
                    f"{channels} channels"
                )
            if channels > 1:
                self.turns.append(Turn(path, name, axis, channels))

    def _flat(self, path: str, layer: Any, flow: Flow) -> int | None:
        """The channels of the images of which features are made; None where they are of none."""
        if path in self._said:
            return self._said[path]
        if flow.kind == "mixed" or (flow.kind == "flat" and flow.channels is None):
            raise self._untold(path, layer, "no layer before it tells of how many channels")
        return flow.channels if flow.kind in ("flat", "start") else None

    def _untold(self, path: str, layer: Any, why: str) -> ValueError:
        return ValueError(
            f"{_called(path, layer)} may be given flattened images, which PyTorch orders (C, H, W),"
            f" and {why}: give channels={{{path!r}: C}}, C being 1 where the order is one"
        )

    # ---- other shapes ----------------------------------------------------------------------------

    def _flatten(self, path: str, flow: Flow) -> Flow:
        if path in self._said:
            return Flow("flat", self._said[path])
        if flow.kind in ("pixels", "start"):
            return Flow("flat", flow.channels)
        if flow.kind == "shaped":
            return replace(flow, kind="plain", axes=0)
        return replace(flow, makers=None)

    def _reshape(self, path: str, layer: Any, flow: Flow) -> Flow:
        shape = layer.shape
        if len(shape) == 1:
            return self._flatten(path, flow)
        if flow.kind in ("plain", "start"):
            return Flow("shaped", shape[-1], flow.makers, len(shape))
        if flow.kind in ("mixed", "shaped") or flow.channels != shape[-1]:
            return MIXED
        if flow.kind == "pixels" and len(shape) == 2:
            return PLAIN  # a sequence of the pixels
        return Flow("pixels", shape[-1])

    def _shaped(self, flow: Flow, image: bool | None) -> Flow:
        """What `Reshape` made, once it is known whether it is images."""
        if flow.kind != "shaped":
            return flow
        if not (flow.axes == 3 if image is None else image):
            return PLAIN
        channels, makers = flow.channels or 1, flow.makers
        if channels != 1 and (makers is None or (makers and channels < 0)):
            raise ValueError(
                f"Reshape makes images of {channels} channels, which PyTorch orders (C, H, W), of "
                "features that no known layer makes: put it and a Linear into one Sequential, and "
                "say the number of channels"
            )
        if channels > 1:
            self.turns += [Turn(*place, channels) for place in makers or ()]
        return Flow("pixels", channels if channels > 0 else None)

    # ---- branches --------------------------------------------------------------------------------

    def _same(self, path: str, layer: Any, a: Flow, b: Flow) -> Flow:
        """The sum of two."""
        kinds = {a.kind, b.kind}
        if kinds == {"plain", "flat"}:
            plain, flat = (a, b) if a.kind == "plain" else (b, a)
            channels = flat.channels
            if channels != 1 and (channels is None or plain.makers is None):
                raise ValueError(
                    f"{_called(path, layer)} adds to flattened images, which PyTorch orders "
                    "otherwise: put a Linear between"
                )
            if channels is not None and channels > 1:
                self.turns += [Turn(*place, channels) for place in plain.makers or ()]
            return flat
        if a.kind == b.kind:
            if a.kind == "plain":
                known = a.makers is not None and b.makers is not None
                both = *(a.makers or ()), *(b.makers or ())
                return Flow("plain", makers=both if known else None)
            return a if a.channels == b.channels else Flow(a.kind, a.channels or b.channels)
        if kinds == {"start", "plain"}:
            return PLAIN
        if kinds == {"start", "pixels"}:
            return a if a.kind == "pixels" else b
        return MIXED

    def _parallel(self, path: str, layer: Any, flow: Flow) -> Flow:
        inside, flow = path + "." if path else "", flow.shared()
        found = [
            self._walk(f"{inside}branches.{i}", branch, flow)
            for i, branch in enumerate(layer.branches)
        ]
        total = found[0]
        for each in found[1:]:
            if layer.merge == "sum":
                total = self._same(path, layer, total, each)
            elif total.kind == each.kind == "pixels":
                known = total.channels is not None and each.channels is not None
                both = (total.channels or 0) + (each.channels or 0)
                total = Flow("pixels", both if known else None)
            else:
                total = PLAIN if {total.kind, each.kind} <= {"plain", "start"} else MIXED
        return total

    # ---- modules of one's own --------------------------------------------------------------------

    def _own(self, inside: str, layer: Module, flow: Flow) -> Flow:
        """A module of which only its parts are known, and not how it calls them."""
        images = any(isinstance(part, (*_IMAGES, nn.Flatten)) for part in layer.modules())
        known = flow.kind in ("plain", "start") and not images
        flow = Flow(flow.kind) if known else MIXED
        for name, child in layer.named_children():
            self._walk(inside + name, child, flow)
        return flow


def _called(path: str, layer: Module) -> str:
    return f"layer {path!r}, {layer!r}," if path else f"{layer!r}"
