"""A short soak of faults; tests/soak.py runs as many as one likes."""

from __future__ import annotations

from pathlib import Path

import pytest
from soak import KINDS, compile_faults, soak


@pytest.mark.slow
def test_faults_of_the_disk_lose_nothing(tmp_path: Path) -> None:
    library = compile_faults(tmp_path)
    if library is None:
        pytest.skip("needs Linux and a C compiler")
    met, findings = soak(tmp_path, library, 30, seed=3)
    assert not findings, findings[0]
    assert {name.split()[0] for name in met} == {"build", "dedup", "tokenize", "train", "feedback"}
    assert {name.split()[1] for name, count in met.items() if count} >= KINDS.keys() - {"clock"}
