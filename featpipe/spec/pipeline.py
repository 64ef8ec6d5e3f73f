"""The pipeline file as a whole: images, features, store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from featpipe.spec.base import Count, Flaw, Number, Pair, PathText, Spec, Whole, as_list, describe, wrong
from featpipe.spec.cluster import Cluster
from featpipe.spec.layers import OPS, Layer, Name
from featpipe.spec.names import NAME_PATTERN
from featpipe.spec.shape import OR_ITEM, Limited, Written

Fraction = Annotated[Number, Field(gt=0, lt=1)]
RESERVED_NAMES = (
    "images", "image", "path", "label", "split", "ok", "height", "width", "fits", "receipts", "checksums",
)  # fmt: skip
"""Names of what else the store has at its root, or its coordinates."""


class RandomSplit(Spec):
    """Draw the splits at random, the same for the same seed and paths."""

    test: Fraction
    """Share of the images in ``test``."""
    val: Fraction | None = None
    """Share of the images in ``val``."""
    seed: Whole = 0
    """Of the generator that draws them."""


def _split_tag(value: Any) -> str:
    return "(drawn)" if isinstance(value, (Mapping, RandomSplit)) else "(word)"


def _read_split(value: object) -> object:
    if value is not None and not isinstance(value, (str, Mapping, RandomSplit)):
        expected = "folders, none, a column of the manifest, or {test: 0.2, seed: 0}"
        raise wrong(Flaw(f"must be {expected}, got {describe(value)}."))
    return value


def _read_range(value: object) -> object:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise wrong(Flaw(f"must be [start, stop] in pixels, got {describe(value)}."))
    return value


def _is_range(value: list[int]) -> list[int]:
    if value[0] >= value[1]:
        raise wrong(Flaw(f"must start before it stops, got {value}."))
    return value


Range = Annotated[
    list[Whole], BeforeValidator(_read_range), Field(min_length=2, max_length=2), AfterValidator(_is_range)
]


class Region(Spec):
    """A part of every image, in pixels: rows ``y`` and columns ``x``, each ``[start, stop]`` with ``stop`` left out."""

    y: Range | None = None
    """All rows unless given."""
    x: Range | None = None
    """All columns unless given."""

    @model_validator(mode="after")
    def _limits_something(self) -> Region:
        if self.y is None and self.x is None:
            raise wrong(Flaw("must give y or x.", "Write {y: [0, 512], x: [0, 512]}, or leave region out."))
        return self


class Images(Spec):
    """Which images, and what becomes of them before the first layer."""

    path: PathText
    """Where they are: a directory or a glob of images, an image, a manifest (``.csv``, or ``.parquet`` with a column
    ``path``), archives (``.tar``, ``.zip``), tables of images (``.parquet`` with a column of their bytes), a ``.npy``
    stack or a ``.zarr`` (OME-Zarr too). All but ``.npy`` may also be in an object store: ``s3://BUCKET/PATH``,
    ``gs://``, ``az://``. Several archives or tables are a glob, or the directory they are in. Absolute once the
    pipeline is read."""
    labels: Annotated[str | None, Written({"type": "string", "enum": ["folders", "none"]})] = None
    """``folders``, ``none``, or a column of the manifest or table; found out unless given. In an archive ``label``
    is the column of what WebDataset's ``.cls`` members hold, or ``label`` in its ``.json`` ones."""
    split: Annotated[
        Annotated[RandomSplit, Tag("(drawn)")] | Annotated[str | None, Tag("(word)")],
        Discriminator(_split_tag),
        BeforeValidator(_read_split),
        Written({"type": "string", "enum": ["folders", "none"]}),
    ] = None
    """``folders``, ``none``, a column of the manifest, or ``{test: 0.2, seed: 0}``; found out unless given."""
    color: Literal["gray", "rgb", "keep"] = "keep"
    """gray is ITU-R 601 luma, 0.299 R + 0.587 G + 0.114 B."""
    luma: Literal["stored", "computed"] = "stored"
    """Gray of colour JPEGs: the luma they store, which is faster to decode, or computed from RGB as for other files.
    They differ by 0.2 of 255 levels on average, by up to 17 in photographs, where RGB cannot hold the stored colour."""
    alpha: Literal["drop", "white"] = "drop"
    """Transparency: dropped, or blended onto white."""
    orientation: Literal["apply", "ignore"] = "apply"
    """Whether to turn images as their EXIF orientation says."""
    region: Region | None = None
    """``{y: [start, stop], x: [start, stop]}`` in pixels of the upright image: the part of every image that is used,
    cut out before ``size``. Padding starts at its edges, as if it were the image. The store's ``y`` and ``x`` count
    from the whole image's corner unless the part is resized. TIFFs, ``.npy`` and zarr are read only where needed."""
    size: Pair | None = None
    """``[y, x]`` in pixels; native size unless given."""
    fit: Literal["crop", "pad", "stretch", "error"] = "crop"
    """How an image of another shape comes to ``size``."""
    values: Literal["unit", "raw"] = "unit"
    """unit divides integers by their type's maximum, so that they lie in [0, 1]; raw leaves them."""
    axes: Literal["yx", "yxc", "cyx", "nyx", "nyxc", "ncyx"] | None = None
    """What the axes of a ``.npy`` or ``.zarr`` array mean, where their number does not tell."""
    on_error: Literal["skip", "fail"] = "skip"
    """An unreadable image: skip keeps its row with ``ok`` false and reports why; fail ends the run."""
    max_pixels: Count = 500_000_000
    """Larger image files are refused before they are decoded. Of files that are read by parts (TIFFs of tiles or
    strips) it limits what is decoded at once, a tile; the file may have 1,000 times as many pixels."""


class Branch(Spec):
    """A named chain of layers, run at every scale."""

    scales: Annotated[list[Count], BeforeValidator(as_list), Field(min_length=1), OR_ITEM] = [1]
    """Pyramid factors, powers of two: 2 halves the image once (Burt-Adelson [1 4 6 4 1]/16, then every 2nd pixel)."""
    layers: Annotated[list[Layer], Field(min_length=1, max_length=1000)]
    """What is done to every image, in order; the map after the last layer is kept, others where ``save`` stands."""

    @field_validator("scales")
    @classmethod
    def _powers_of_two(cls, scales: list[int]) -> list[int]:
        for scale in scales:
            if scale & (scale - 1):
                raise wrong(Flaw(f"must be powers of two (1, 2, 4, ...), got {scale}."))
        if len(set(scales)) != len(scales):
            raise wrong(Flaw(f"must differ from each other, got {scales}."))
        return scales

    @model_validator(mode="before")
    @classmethod
    def _is_a_mapping(cls, data: Any) -> Any:
        if isinstance(data, list):
            raise wrong(Flaw("must be a mapping with layers, got the list itself.", "Put the list under layers:."))
        if isinstance(data, Mapping) and "layers" not in data and (found := [key for key in data if key in OPS]):
            raise wrong(Flaw(f"{found[0]} is a layer.", "List it under layers:.", (found[0],), True))
        return data


def _is_free(name: str) -> str:
    if name.casefold() in RESERVED_NAMES:
        what = f"{name!r} is the name of something else in the store."
        raise wrong(Flaw(what, "Give the branch another name."))
    return name


BranchName = Annotated[
    Name,
    AfterValidator(_is_free),
    Limited({"pattern": f"^(?!({'|'.join(RESERVED_NAMES)})$){NAME_PATTERN.pattern}$"}),
]


class Store(Spec):
    """Where the features go, and in what pieces."""

    path: Annotated[PathText, Limited({"pattern": r"\.zarr[/\\]*$"})] = "features.zarr"
    """Relative to the pipeline file, absolute once the pipeline has been read; or ``s3://…``, ``gs://…``, ``az://…``."""
    dtype: Literal["float32", "float16"] = "float32"
    """Of the stored values; the arithmetic is float32."""
    batch: Count | None = None
    """Images per shard; chosen from memory unless given."""
    block: Pair | None = None
    """``[y, x]`` input pixels per shard of a large image, rounded up to what every map's stride divides."""

    @field_validator("path")
    @classmethod
    def _is_zarr(cls, path: str) -> str:
        if not path.rstrip("/\\").endswith(".zarr"):
            raise wrong(Flaw(f"must end in .zarr, got {path!r}."))
        return path


class Pipeline(Spec):
    """A pipeline file: ``images`` and ``features`` must be given."""

    images: Images
    """Which images, and what becomes of them before the first layer."""
    features: Annotated[dict[BranchName, Branch], Field(min_length=1)]
    """What is computed: branches, each a chain of layers under a name of your choice."""
    store: Store = Store()
    """Where the features go, and in what pieces."""
    cluster: Cluster | None = None
    """Which machines a run uses; threads of one process unless given. It changes no bit of the features."""
