"""A stack of convolutions imported whole, with its weights, from another library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from featpipe.spec.activations import Activation
from featpipe.spec.base import Count, Flaw, PathText, PositiveNumber, Spec, describe, wrong
from featpipe.spec.names import SavedName
from featpipe.spec.padding import PaddingField
from featpipe.spec.pooling import Pool
from featpipe.spec.shape import Limited


def _read_taps(value: object) -> object:
    """Take ``{4: pool1}``; in the file every key is text."""
    if not isinstance(value, Mapping):
        raise wrong(Flaw(f"must be {{index of the module: name}}, got {describe(value)}.", "Write {4: pool1}."))
    taps, flaws = {}, []
    for key, name in value.items():
        if not str(key).isdecimal():
            flaws.append(Flaw("must be the index of a module, a whole number.", "Write {4: pool1}.", (key,), True))
        else:
            taps[int(key)] = name
    if flaws:
        raise wrong(*flaws)
    return taps


class Import(Spec):
    """A sequence of convolutions from a PyTorch state_dict, as torchvision's ``vgg16().features``.

    A state_dict holds no module without weights, so these are inferred from the gaps between the indices: after a
    convolution (and its batch norm, which is folded into it) nothing, or one module, the activation, or two, the
    activation and a pooling.
    """

    file: PathText
    """``.safetensors`` file of a whole state_dict: ``safetensors.torch.save_file(model.state_dict(), FILE)``."""
    prefix: str = ""
    """What stands before the indices of the modules: ``features`` of ``features.0.weight``."""
    until: Count | None = None
    """The first module that is left out; unless given, the activation after the last convolution ends the stack."""
    taps: Annotated[
        dict[int, SavedName],
        BeforeValidator(_read_taps),
        Limited({"propertyNames": {"pattern": "^[0-9]+$"}}),
    ] = {}
    """Index of a module to the name under which the map after it is kept too."""
    padding: PaddingField | None = None
    """Of the convolutions; unless given, zeros on each side, half the kernel's edge rounded down, as VGG pads."""
    pool: Pool = Pool(by="max", over=[2, 2])
    """What the poolings are."""
    activation: Activation = Activation(name="relu")
    """What the activations are."""
    epsilon: PositiveNumber = 1e-5
    """Of the batch norms, added to the variance."""

    @model_validator(mode="after")
    def _taps_are_inside(self) -> Import:
        flaws = [
            Flaw(f"is beyond the stack, which ends before module {self.until}.", "Raise until.", ("taps", str(i)), True)
            for i in self.taps
            if self.until is not None and i >= self.until
        ]
        if flaws:
            raise wrong(*flaws)
        return self


class ImportLayer(Spec):
    """``- import: {file: vgg16.safetensors, prefix: features, until: 16}``."""

    imported: Annotated[Import, Field(alias="import")]
