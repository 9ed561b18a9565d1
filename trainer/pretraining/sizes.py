"""Sizes of models by name: Turc et al. 2019 (arXiv 1908.08962, table 1), and Devlin et al. 2019 (arXiv 1810.04805)."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Size:
    """Layers, and hidden units of each; 64 of these a head, and four times as many in the feed-forward part."""

    num_layers: int
    hidden_size: int

    def settings(self) -> dict[str, int]:
        """The same under the names that BERT, RoBERTa and ALBERT share in config.json."""
        return {
            "num_hidden_layers": self.num_layers,
            "hidden_size": self.hidden_size,
            "num_attention_heads": max(1, self.hidden_size // 64),
            "intermediate_size": 4 * self.hidden_size,
        }


SIZES = {
    "tiny": Size(num_layers=2, hidden_size=128),
    "mini": Size(num_layers=4, hidden_size=256),
    "small": Size(num_layers=4, hidden_size=512),
    "medium": Size(num_layers=8, hidden_size=512),
    "base": Size(num_layers=12, hidden_size=768),
    "large": Size(num_layers=24, hidden_size=1024),
}
