"""Decoding a collection once: under its name stands a whole copy or none, whoever else writes there or is killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from featpipe.errors import FeatpipeError, Problem, StoreError
from featpipe.images.ingest import IngestReport, Progress, write_ingested
from featpipe.images.refusal import source_error
from featpipe.images.scan import scan
from featpipe.spec.pipeline import Images
from featpipe.store.lock import BEAT, LAPSE, StoreLock
from featpipe.store.place import LocalPlace


def ingest(
    images: Images, target: Path, progress: Progress | None = None, *, lapse: float = LAPSE, beat: float = BEAT
) -> IngestReport:
    """Decode every image once and write them as one zarr group, which ``scan`` reads as it read the files.

    8- and 16-bit images whose values the options leave as they are stay integers, everything else is stored as the
    float32 that the chain would see. Either way a run on the result, with the same options, gives the same bits.

    Parameters
    ----------
    images : Images
        All images must come out with one shape.
    target : Path
        Must not exist. It appears under its name when it is complete, never before.
    progress : callable, optional
        Called with images done and images in all.
    lapse, beat : float
        Of the lock that is held meanwhile, in seconds.

    Raises
    ------
    SourceError
        If the collection cannot be read, or its shapes differ.
    StoreError
        If ``target`` exists or cannot be written, or another process writes it.
    """
    _check_free(target)
    collection = scan(images)
    if not collection.uniform:
        raise source_error("size", "the images differ in size, one array cannot hold them.", "Set images.size and fit.")
    beside = LocalPlace(target.with_name(f".{target.name}"))
    with StoreLock(beside, lapse=lapse, beat=beat, name=str(target), lasting=False).held() as lock:
        _check_free(target)
        draft = lock.drafts / target.name

        def went_on(done: int, total: int) -> None:
            if lock.lost.is_set():
                raise lock.fence.error()
            if progress is not None:
                progress(done, total)

        with _told(target, lock):
            report = write_ingested(images, collection, draft, went_on)
            lock.fence.check()  # whoever takes the lock does away with the draft next: it is moved whole, or not at all
            draft.rename(target)
    return replace(report, target=target)


def _check_free(target: Path) -> None:
    if target.exists():
        raise StoreError(Problem(str(target), "exists already.", "Remove it, or ingest to another path."))


@contextmanager
def _told(target: Path, lock: StoreLock) -> Iterator[None]:
    """Say in words what goes wrong: first of all that the lock was taken, and the draft was done away with."""
    try:
        yield
    except FeatpipeError:
        raise
    except Exception as error:
        if not lock.fence.holds():
            raise lock.fence.error() from None
        if not isinstance(error, OSError):
            raise
        what = f"cannot be written ({error.strerror or error})."
        raise StoreError(Problem(str(target), what, "Free some space, or ingest to another path.")) from error
