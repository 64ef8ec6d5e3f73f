"""Stores that are not as they were written: ``verify`` names what is damaged, ``run`` mends it to the same bytes."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.endpoint import Bucket
from tests.integration.damage import Patient, flipped, make_images, pipeline

FLIPS = int(os.environ.get("DAMAGE_FLIPS", "150"))
"""Of the campaigns; 2000 for a release."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("damage") / "images")


@pytest.fixture(scope="module")
def patient(images: Path) -> Patient:
    return Patient(pipeline(images, str(images.parent / "blocks.zarr")))


@pytest.fixture(scope="module")
def batches(images: Path) -> Patient:
    return Patient(pipeline(images, str(images.parent / "batches.zarr"), blocks=False))


# -- one file ---------------------------------------------------------------------------------------------------------


def one_of_each(whole: Iterable[str]) -> list[str]:
    """Return a file of each kind: of those of one array or group, metadata and the last chunk."""
    kinds: dict[str, str] = {}
    for key in sorted(whole):
        group, _, _ = key.partition("/c/")
        kinds[f"{group} {'/c/' in key}"] = key
    return list(kinds.values())


def test_a_file_cut_to_nothing_is_named_and_mended(patient: Patient) -> None:
    for key in one_of_each(patient.whole):
        patient.harm(key, b"")


def test_a_flipped_bit_anywhere_is_named_and_mended(batches: Patient) -> None:
    draw = random.Random(0)
    for _ in range(25):
        key = draw.choice(sorted(batches.whole))
        batches.harm(key, flipped(batches.whole[key], draw))


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("blocks", [True, False])
def test_many_flipped_bits_and_every_file_cut_are_named_and_mended(images: Path, tmp_path: Path, blocks: bool) -> None:
    campaign(Patient(pipeline(images, str(tmp_path / "out.zarr"), blocks=blocks)), FLIPS // 2, blocks)


@pytest.mark.slow
@pytest.mark.timeout(14400)
def test_in_an_object_store_too(images: Path, bucket: Bucket) -> None:
    campaign(Patient(pipeline(images, f"{bucket.url}/out.zarr")), FLIPS, seed=2)


def campaign(patient: Patient, flips: int, seed: int) -> None:
    draw = random.Random(seed)
    for key in sorted(patient.whole):
        patient.harm(key, b"")
        patient.harm(key, patient.whole[key][: draw.randrange(1, len(patient.whole[key]))])
    patient.shown = 0
    for _ in range(flips):
        key = draw.choice(sorted(patient.whole))
        patient.harm(key, flipped(patient.whole[key], draw))
    assert patient.shown > flips // 4  # most flips are seen by readers; all of them were named
