"""Every architecture's losses, packed and padded, are those of a plain loop over what its own tokenizer gives."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from tests.test_architectures import SECONDS, SENTENCES, build, write_model
from trainer.architectures import ARCHITECTURES, max_tokens_of, read_inputs
from trainer.encoding import encode_text
from trainer.loop import Examples, Learner, train_epoch
from trainer.models import read_config, read_tokenizer, read_vocabulary
from trainer.objectives import Classification
from trainer.optimizers import build_optimizer
from trainer.packing import prepare

LONG = [
    " ".join(sentence.split() * repeats) for sentence, repeats in zip(SENTENCES, (30, 2, 40, 17, 60, 1), strict=True)
]
# These were pre-trained on pairs with token types. transformers' ALBERT tokenizer gives them only when it is asked.
HAVE_TOKEN_TYPES = ("bert", "albert", "electra")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("architectures") / request.param, request.param)


def calm(model: Any) -> Any:
    """The model without dropout, to be trained."""
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    return model.train()


@pytest.mark.parametrize("is_packed", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("sentences", [SENTENCES, LONG], ids=["short", "long"])
@pytest.mark.parametrize("seconds", [[], SECONDS], ids=["single", "pairs"])
def test_losses_equal_a_plain_loop_over_the_tokenizers_own_inputs(
    tiny: Path, sentences: list[str], seconds: list[str], is_packed: bool
) -> None:
    labels, batch_size = [0, 1, 2, 0, 1, 2], 3
    longest = max_tokens_of(tiny)
    encoded = encode_text(sentences, seconds, read_tokenizer(tiny), read_vocabulary(tiny), longest)
    model: Any = calm(build(tiny, "pretrained"))
    takes = read_inputs(model.config)
    if is_packed:
        prepare(model, takes)
    optimizer = build_optimizer("adam", model.parameters(), 1e-3)
    learner = Learner(
        model=model,
        takes=takes,
        objective=Classification(num_outputs=3),
        optimizer=optimizer,
        schedule=LambdaLR(optimizer, lambda step: 1.0),
        device=torch.device("cpu"),
    )
    examples = Examples(encoded, np.array(labels), learner.device, is_packed=is_packed)
    losses = [float(loss) for loss in train_epoch(learner, examples, torch.arange(6), batch_size)]

    plain: Any = calm(build(tiny, "pretrained"))
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-3)
    expected, has_types = [], tiny.name in HAVE_TOKEN_TYPES
    for start in range(0, 6, batch_size):
        rows = slice(start, start + batch_size)
        texts = sentences[rows], seconds[rows] or None
        inputs = read_tokenizer(tiny)(
            *texts,
            padding=True,
            truncation=True,
            max_length=longest,
            return_token_type_ids=has_types,
            return_tensors="pt",
        )
        loss = plain(**inputs, labels=torch.tensor(labels[rows])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    assert losses == pytest.approx(expected, rel=1e-4)


def test_a_classifier_that_reads_the_mean_of_all_tokens_is_not_packed(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "modernbert", "modernbert")
    assert read_inputs(read_config(folder, 2)).reads_first_token
    config = json.loads((folder / "config.json").read_text()) | {"classifier_pooling": "mean"}
    (folder / "config.json").write_text(json.dumps(config))
    assert not read_inputs(read_config(folder, 2)).reads_first_token
