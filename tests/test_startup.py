"""What Keras imports when the program starts."""

from __future__ import annotations

import subprocess
import sys


def imported(code: str) -> list[str]:
    report = "print(*sorted({'sklearn', 'pandas', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", f"import sys\n{code}\n{report}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_keras_does_without_optional_packages_and_others_find_them():
    hidden = "from keras_tagger.startup import hide_optional_packages_from_keras as hide; hide(); import tensorflow"
    assert imported(f"{hidden}; assert 'keras.src' in sys.modules") == []
    assert imported(f"{hidden}; import pandas, matplotlib") == ["matplotlib", "pandas"]
    # Without it, Keras imports them: if it no longer does, `startup` is not needed.
    assert imported("import tensorflow") == ["matplotlib", "pandas", "sklearn"]
