"""What training costs, from a model's config.json alone: without torch, which takes seconds to import."""

import json
from pathlib import Path

HIDDEN, INNER, LAYERS = ("hidden_size", "dim"), ("intermediate_size", "hidden_dim"), ("num_hidden_layers", "n_layers")


def training_flops(folder: Path, num_tokens: float) -> float | None:
    """Floating-point operations of a forward and a backward pass over tokens in the layers of a model folder's encoder.

    Six for each weight and token (arXiv 2001.08361, section 2.1); a rough figure: attention between tokens is left out,
    and so is a gate in the feed-forward layers. None where config.json does not say how large the model is.
    """
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    # DistilBERT has names of its own.
    hidden, inner, layers = (
        next((settings[name] for name in names if isinstance(settings.get(name), int)), None)
        for names in (HIDDEN, INNER, LAYERS)
    )
    if hidden is None or inner is None or layers is None:
        return None
    return 6 * num_tokens * layers * (4 * hidden**2 + 2 * hidden * inner)
