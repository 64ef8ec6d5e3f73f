"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def count_text(count: int, noun: str = "") -> str:
    """Write a count, with its noun in the right number.

    Examples
    --------
    >>> count_text(1234567, "image"), count_text(1, "task"), count_text(12)
    ('1,234,567 images', '1 task', '12')
    """
    plural = "" if count == 1 or not noun else "s"
    return f"{count:,} {noun}{plural}".strip()


def bytes_text(size: float) -> str:
    """Write a number of bytes.

    Examples
    --------
    >>> bytes_text(512), bytes_text(3 << 20), bytes_text(1.55 * 2**30)
    ('512 B', '3 MiB', '1.55 GiB')
    """
    if size < 1024:
        return f"{size:.0f} B"
    unit = "KiB"
    size /= 1024
    for larger in ("MiB", "GiB", "TiB", "PiB"):
        if float(_three(size).replace(",", "")) < 1024:
            break
        size, unit = size / 1024, larger
    return f"{_three(size)} {unit}"


def scaled_text(value: float) -> str:
    """Write a large number with k, M, G, T for thousands.

    Examples
    --------
    >>> scaled_text(999), scaled_text(2_480_000), scaled_text(3.1e10), scaled_text(0)
    ('999', '2.48 M', '31 G', '0')
    """
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * factor:
            return f"{_three(value / factor)} {prefix}"
    return _three(value)


def seconds_text(seconds: float) -> str:
    """Write a duration.

    Examples
    --------
    >>> seconds_text(0.213), seconds_text(61), seconds_text(3700)
    ('0.213 s', '1 min 1 s', '1 h 2 min')
    """
    if seconds < 10:
        return f"{_three(seconds)} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(whole / 60)
    return f"{minutes // 60:,} h {minutes % 60} min"


def brief_text(seconds: float) -> str:
    """Write a duration that may be far below a second, to two digits.

    Examples
    --------
    >>> brief_text(0.000123), brief_text(0.0456), brief_text(7.2e-7), brief_text(3.21)
    ('0.12 ms', '46 ms', '0.00 ms', '3200 ms')
    """
    return f"{float(f'{seconds * 1e3:.2g}'):.{2 if seconds < 9.95e-4 else 1 if seconds < 9.95e-3 else 0}f} ms"


def rough(seconds: float) -> int:
    """Round an estimate to one digit, at least 1.

    Examples
    --------
    >>> rough(0.02), rough(12.6), rough(3840)
    (1, 10, 4000)
    """
    return max(1, int(float(f"{seconds:.0e}")))


def range_text(least: int, most: int) -> str:
    """Write a range, or the one number it is."""
    return f"{least}" if least == most else f"{least}–{most}"


def shape_text(least: Sequence[int], most: Sequence[int] | None = None) -> str:
    """Write a shape, or the shapes between two, axis by axis.

    Examples
    --------
    >>> shape_text([64, 64, 3]), shape_text([300, 451], [512, 600])
    ('64×64×3', '300–512 × 451–600')
    """
    most = least if most is None else most
    parts = [range_text(a, b) for a, b in zip(least, most, strict=True)]
    return ("×" if list(least) == list(most) else " × ").join(parts)


def counts_text(counts: Mapping[str, int], most: int = 12) -> str:
    """Write names with their counts, the first few of many.

    Examples
    --------
    >>> counts_text({"train": 96, "test": 32})
    'train 96 · test 32'
    """
    shown = [f"{name} {count:,}" for name, count in list(counts.items())[:most]]
    if len(counts) > most:
        shown.append(f"… {len(counts) - most:,} more")
    return " · ".join(shown)


def _three(value: float) -> str:
    """Write a number with three significant digits, but no fewer than its whole part has."""
    if value >= 99.95 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"
