"""Run the authors' own code from a checkout and write its results; compare_authors.py calls this program.

It needs PyTorch, torchaudio, einops and librosa, which this package does not need, and imports nothing of this package.
The model has random weights, and its batch norms have the statistics of the given clips::

    python tools/authors_reference.py --architecture won2021 --repo CHECKOUT --waveforms clips.npz --out_dir DIR

clips.npz holds "waveforms", float32 [clips, samples] at the model's rate. DIR gets checkpoint.pth and reference.npz:
"spectrograms" [clips, frames, mels] and "probabilities" [clips, tags]. With --small the model is narrow, as for the
golden data of the tests. --saved chooses the form of the checkpoint: plain as the authors' training writes it, with
DataParallel in the format before PyTorch 1.6, or from Lightning with a teacher.
"""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 4


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", required=True, choices=sorted(MAKERS))
    parser.add_argument("--repo", required=True, help="the authors' checkout")
    parser.add_argument("--waveforms", required=True, help="an .npz file with waveforms [clips, samples]")
    parser.add_argument("--out_dir", "--out-dir", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--double", action="store_true", help="compute in float64")
    parser.add_argument("--small", action="store_true", help="a narrow model")
    parser.add_argument("--saved", choices=("plain", "parallel", "lightning"), default="plain")
    arguments = parser.parse_args()

    import torch

    _pool_of_any_height()
    torch.manual_seed(arguments.seed)
    waveforms = np.load(arguments.waveforms)["waveforms"]
    model, spectrogram_of = MAKERS[arguments.architecture](arguments.repo, arguments.small, waveforms.shape[1])
    inputs, spectrograms = spectrogram_of(waveforms)
    _randomise(model, inputs)
    model.eval()
    out = Path(arguments.out_dir)
    out.mkdir(parents=True, exist_ok=True)
    _save(model.state_dict(), out / "checkpoint.pth", arguments.saved)
    if arguments.double:
        model, waveforms = model.double(), waveforms.astype(np.float64)
        inputs, spectrograms = spectrogram_of(waveforms)
    with torch.no_grad():
        found = [model(inputs[start : start + BATCH]).numpy() for start in range(0, len(inputs), BATCH)]
    np.savez(out / "reference.npz", spectrograms=spectrograms, probabilities=np.concatenate(found))


def _save(state: Any, path: Path, how: str) -> None:
    import torch

    if how == "parallel":
        parallel = {f"module.{name}": value for name, value in state.items()}
        torch.save(parallel, path, _use_new_zipfile_serialization=False)
    elif how == "lightning":
        beside = {f"teacher_network.{name}": value for name, value in list(state.items())[:3]}
        network = {f"network.{name}": value for name, value in state.items()}
        torch.save({"epoch": 3, "state_dict": {**network, **beside}}, path)
    else:
        torch.save(state, path)


def _pool_of_any_height() -> None:
    """Allow a max-pooling larger than its input, as the PyTorch version that won2019 was written for did."""
    import torch.nn.functional as functional

    pool = functional.max_pool2d

    @functools.wraps(pool)
    def clipped(x: Any, kernel_size: Any, stride: Any = None, *rest: Any, **more: Any) -> Any:
        if isinstance(kernel_size, tuple):
            kernel_size = tuple(min(size, length) for size, length in zip(kernel_size, x.shape[-2:], strict=True))
        return pool(x, kernel_size, stride, *rest, **more)

    functional.max_pool2d = clipped


def _randomise(model: Any, inputs: Any) -> None:
    """Randomise norms, give batch norms the clips' statistics, and spread the outputs over 0..1."""
    import torch

    norms = [module for module in model.modules() if hasattr(module, "running_mean")]
    with torch.no_grad():
        for module in model.modules():
            if module in norms or "LayerNorm" in type(module).__name__:
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0.0, 0.1)
        for norm in norms:
            # None means an average over all batches.
            norm.momentum = None
        model.train()
        for start in range(0, len(inputs), BATCH):
            model(inputs[start : start + BATCH])
        last = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
        head = next((getattr(model, name) for name in ("classifier", "dense") if hasattr(model, name)), last)
        head.weight.mul_(4.0)


def _won2019(front: str, repo: str, small: bool, n_samples: int) -> tuple[Any, Any]:
    sys.path.insert(0, str(Path(repo) / "training"))
    import torch
    from model import MTSA

    tokens = n_samples // (256 if front == "pons" else 243)
    sizes = {"conv_channels": 2, "attention_channels": 16, "num_class": 5} if small else {}
    model = MTSA(architecture=f"{front}_won", attention_length=tokens + 1, is_cuda=False, **sizes)

    def spectrogram_of(waveforms: np.ndarray) -> tuple[Any, np.ndarray]:
        if front == "lee":
            return torch.from_numpy(waveforms), np.zeros([len(waveforms), 0, 0], np.float32)
        import librosa

        # As in preprocessing/mtat/preprocess.py with librosa 0.6, which reflected; training then cuts to whole tokens.
        settings = {"sr": 16000, "n_fft": 512, "hop_length": 256, "n_mels": 96}
        decibels = [
            librosa.amplitude_to_db(librosa.feature.melspectrogram(y=wave, pad_mode="reflect", **settings))
            for wave in waveforms
        ]
        cut = np.stack(decibels)[:, :, :tokens].astype(waveforms.dtype)
        return torch.from_numpy(cut), cut.transpose(0, 2, 1)

    return model, spectrogram_of


def _won2020(repo: str, small: bool, n_samples: int) -> tuple[Any, Any]:
    sys.path.insert(0, str(Path(repo) / "training"))
    import model as code
    import torch

    model = code.CNNSA(n_channels=8 if small else 128, n_class=5 if small else 50)
    if small:
        # Its constructor hard-codes the encoder's width.
        settings = code.BertConfig(
            vocab_size=16, hidden_size=16, num_hidden_layers=2, num_attention_heads=8, intermediate_size=24
        )
        model.encoder, model.pooler = code.BertEncoder(settings), code.BertPooler(settings)
        model.vec_cls, model.dense = model.get_cls(16), torch.nn.Linear(16, 5)
    return model, functools.partial(_through, model.spec, model.to_db)


def _won2021(repo: str, small: bool, n_samples: int) -> tuple[Any, Any]:
    sys.path.insert(0, str(Path(repo) / "src"))
    from models import MusicTaggingTransformer

    sizes = {"conv_ndim": 4, "attention_ndim": 16, "attention_nlayers": 2, "attention_max_len": 120, "n_seq_cls": 5}
    model = MusicTaggingTransformer(**(sizes if small else {"conv_ndim": 128, "n_seq_cls": 50}))
    return model, functools.partial(_through, model.spec, model.amplitude_to_db)


def _through(spectrogram: Any, decibels: Any, waveforms: np.ndarray) -> tuple[Any, np.ndarray]:
    """Return the waveforms, and their spectrograms by the model's own first two modules."""
    import torch

    inputs = torch.from_numpy(waveforms)
    return inputs, decibels(spectrogram(inputs)).numpy().transpose(0, 2, 1)


MAKERS = {
    "won2019": functools.partial(_won2019, "pons"),
    "won2019_raw": functools.partial(_won2019, "lee"),
    "won2020": _won2020,
    "won2021": _won2021,
}

if __name__ == "__main__":
    main()
