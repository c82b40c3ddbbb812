"""What a machine computes with in 16 bits, and what is said where that gains nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.distribute.units import cpu_flags, flags_of, no_gain

X86 = """\
processor\t: 0
model name\t: Some CPU
flags\t\t: fpu vme avx512f avx512_bf16
bugs\t\t: amx_bf16_bug

processor\t: 1
flags\t\t: fpu vme avx512f avx512_bf16
"""
ARM = "processor : 0\nFeatures : fp asimd bf16 i8mm\n"


def test_the_flags_are_those_of_x86_and_of_arm() -> None:
    assert flags_of(X86) == {"fpu", "vme", "avx512f", "avx512_bf16"}
    assert flags_of(ARM) == {"fp", "asimd", "bf16", "i8mm"}
    assert flags_of("") == frozenset()


def test_what_cannot_be_read_has_no_flags(tmp_path: Path) -> None:
    assert cpu_flags(tmp_path / "none") == frozenset()
    (tmp_path / "cpuinfo").write_text(ARM)
    assert "bf16" in cpu_flags(tmp_path / "cpuinfo")


@pytest.mark.parametrize(
    ("precision", "flags", "gpus", "words"),
    [
        ("float32", set(), [], None),
        ("mixed_bfloat16", {"avx512_bf16"}, [], None),
        ("mixed_bfloat16", {"amx_bf16", "fpu"}, [], None),
        ("mixed_bfloat16", {"bf16"}, [], None),
        ("mixed_bfloat16", {"avx512f"}, [], "no units for bfloat16"),
        ("mixed_bfloat16", {"avx512_bf16"}, [(8, 0)], "on CPUs only"),
        ("mixed_float16", {"avx512_bf16"}, [], "is for GPUs"),
        ("mixed_float16", set(), [(7, 0)], None),
        ("mixed_float16", set(), [(9, 0), (8, 6)], None),
        ("mixed_float16", set(), [(6, 1)], "6.1 has no tensor cores"),
        ("mixed_float16", set(), [(8, 0), (6, 0)], "6.0 has no tensor cores"),
        ("mixed_float16", set(), [None], None),
    ],
)
def test_where_a_precision_gains_nothing(
    precision: str, flags: set[str], gpus: list[tuple[int, int] | None], words: str | None
) -> None:
    why = no_gain(precision, frozenset(flags), gpus)
    assert (why is None) == (words is None)
    assert words is None or words in (why or "")
