"""The cheap rival: how often each k-mer occurs in a sequence, and a linear model of these counts.

Features are the counts of all k-mers of length 1 to K that occur in train (the spectrum kernel's, Leslie et al. 2002,
psb.stanford.edu/psb-online/proceedings/psb02/leslie.pdf, for several lengths), each divided by its largest count in
train. Classes are learned by logistic regression, numbers by ridge regression (scikit-learn). K and the penalty on the
squared weights are chosen by the score on valid, from MAX_KMER_LENGTH, MAX_FEATURES and PENALTIES.

Shape suffixes: N examples, F features, C classes.
"""

import platform
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer import artifacts
from trainer.config import Report, TrialConfig, TrialResult
from trainer.encoding import cut
from trainer.logger import Logger
from trainer.metrics import headline, named, score
from trainer.tasks.task import Dataset, Split, Task

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

MAX_KMER_LENGTH = 6
MAX_FEATURES = 20_000  # K stays below the length at which there are more; 1 is always tried
PENALTIES = (100.0, 10.0, 1.0, 0.1)  # ridge's alpha, logistic regression's 1/C; of equal scores the first wins
MAX_ITERATIONS = 100  # of logistic regression; a fit that needs more is used as it is


def kmers(length: int, sequence: str) -> list[str]:
    """All overlapping k-mers of one length; none where the sequence is shorter.

    Not CountVectorizer's own ``analyzer="char"``: that takes several blanks for one, and pitches may be blanks.
    """
    return [sequence[start : start + length] for start in range(len(sequence) - length + 1)]


class Counts:
    """Counts of k-mers, scaled; one more length with each :meth:`grow`."""

    def __init__(self, train: Sequence[str]) -> None:
        from scipy.sparse import csr_matrix

        self.train = train
        self.longest = max(map(len, train))
        self.lengths: list[Any] = []  # a scikit-learn pipeline for each
        self.features_NF = csr_matrix((len(train), 0))

    def grow(self) -> bool:
        """Adds the k-mers of the next length; False, and nothing changed, where there are none or too many."""
        from scipy.sparse import hstack
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import MaxAbsScaler

        length = len(self.lengths) + 1
        if length > min(MAX_KMER_LENGTH, self.longest):
            return False
        counter = CountVectorizer(analyzer=partial(kmers, length), dtype=np.float64)
        scaled = make_pipeline(counter, MaxAbsScaler())
        added_NF = scaled.fit_transform(self.train)
        features_NF = hstack([self.features_NF, added_NF], format="csr")
        if length > 1 and features_NF.shape[1] > MAX_FEATURES:
            return False
        self.lengths.append(scaled)
        self.features_NF = features_NF
        return True

    def transform(self, sequences: Sequence[str], max_length: int) -> "csr_matrix":
        """(N, F) the scaled counts of the k-mers of length 1 to max_length that occur in train."""
        from scipy.sparse import hstack

        return hstack([counts.transform(sequences) for counts in self.lengths[:max_length]], format="csr")


Predictor = Callable[["csr_matrix"], np.ndarray]  # features (N, F) to class probabilities (N, C), or numbers (N,)


def fit(features_NF: "csr_matrix", labels_N: np.ndarray, num_classes: int, penalty: float) -> Predictor:
    """A linear model of the labels: class indices, or numbers where num_classes is 0.

    A class without an example in train has probability 0.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge
    from threadpoolctl import threadpool_limits

    classes = np.unique(labels_N)
    probability_of = partial(_spread, classes=classes, num_classes=num_classes)
    if num_classes and len(classes) == 1:
        return lambda features_NF: probability_of(np.ones((features_NF.shape[0], 1)))
    # The vectors are too short to share out: on a busy machine several threads are many times slower than one.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        if num_classes == 0:
            return Ridge(alpha=penalty, solver="sparse_cg").fit(features_NF, labels_N).predict
        model = LogisticRegression(C=1 / penalty, max_iter=MAX_ITERATIONS).fit(features_NF, labels_N)
    return lambda features_NF: probability_of(model.predict_proba(features_NF))


def _spread(probabilities: np.ndarray, *, classes: np.ndarray, num_classes: int) -> np.ndarray:
    """(N, C) probabilities of all classes, from those of the classes in train."""
    spread_NC = np.zeros((len(probabilities), num_classes))
    spread_NC[:, classes] = probabilities
    return spread_NC


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What valid chose.

    Attributes:
        predict: sequences to class probabilities (N, C), or numbers (N,).
        num_fits: how many models it was chosen from.
    """

    max_length: int
    penalty: float
    valid_scores: dict[str, float]
    predict: Callable[[Sequence[str]], np.ndarray]
    num_fits: int


def choose(train: Split, valid: Split, num_classes: int, metrics: tuple[str, ...]) -> Choice:
    """Fits a model for every K and penalty, and keeps the one with the best score on valid.

    Of equal ones it is the one with the smaller K, then with the larger penalty. Test is not seen here.
    """
    counts = Counts(train.sequences)
    fits: list[tuple[dict[str, float], int, float, Predictor]] = []
    while counts.grow():
        max_length = len(counts.lengths)
        valid_NF = counts.transform(valid.sequences, max_length)
        for penalty in PENALTIES:
            predict = fit(counts.features_NF, train.labels, num_classes, penalty)
            fits.append((score(metrics, valid, predict(valid_NF)), max_length, penalty, predict))
    scores, max_length, penalty, predict = max(fits, key=lambda found: headline(found[0]))
    return Choice(
        max_length=max_length,
        penalty=penalty,
        valid_scores=scores,
        predict=lambda sequences: predict(counts.transform(sequences, max_length)),
        num_fits=len(fits),
    )


def cut_to_length(split: Split, task: Task, max_length: int) -> Split:
    """The split with its sequences cut as language models see them."""
    tail = max_length // 2 if task.keeps_both_ends else 0
    return replace(split, sequences=tuple(cut(split.sequences, max_length, tail)))


class KmerTrial:
    """One config trained once, with the face of :class:`trainer.trial.Trial`: iterate over it for its one report.

    Args:
        config: what to train.
        logger: told everything that happens.
        dataset: its train is what is trained on.
        metrics: keys of ``trainer.metrics.METRICS``, the headline one first.
        scores_train: whether the score on train is recorded too.
    """

    def __init__(
        self,
        config: TrialConfig,
        logger: Logger,
        dataset: Dataset,
        metrics: tuple[str, ...],
        *,
        scores_train: bool = False,
    ) -> None:
        self.config, self.logger, self.dataset = config, logger, dataset
        self.metrics, self.scores_train = metrics, scores_train
        self.result: TrialResult | None = None
        logger.params(config.settings())
        logger.tag("hardware", f"{platform.machine()} CPU")
        logger.artifact("config.json", artifacts.config_json(config))

    def __iter__(self) -> Iterator[Report]:
        return self

    def __next__(self) -> Report:
        """Chooses a model on valid and scores it on test: the one time that test is read."""
        if self.result is not None:
            raise StopIteration
        task = self.config.definition
        max_length = self.config.max_length or task.max_length
        dataset = self.dataset
        train, valid, test = (
            cut_to_length(split, task, max_length) for split in (dataset.train, dataset.valid, dataset.test)
        )
        started = time.perf_counter()
        choice = choose(train, valid, len(dataset.classes), self.metrics)
        seconds = time.perf_counter() - started
        predictions = choice.predict(test.sequences)
        train_scores = score(self.metrics, train, choice.predict(train.sequences)) if self.scores_train else {}
        metrics = {
            **(named("train", train_scores) if train_scores else {}),
            **named("valid", choice.valid_scores),
            **named("test", score(self.metrics, test, predictions)),
            "examples_per_second": choice.num_fits * len(train) / seconds,
        }
        self._log(choice, metrics, predictions)
        self.result = TrialResult(config=self.config, outcome="finished", metrics=metrics, losses=[])
        return Report(epoch=1, step=0, valid_score=metrics["valid/score"], result=self.result)

    def _log(self, choice: Choice, metrics: dict[str, float], predictions: np.ndarray) -> None:
        for name, value in metrics.items():
            self.logger.metrics(name, [value], [1])
        self.logger.tag("kmer_max_length", str(choice.max_length))
        penalty = f"C={1 / choice.penalty:g}" if self.dataset.classes else f"alpha={choice.penalty:g}"
        self.logger.tag("kmer_penalty", penalty)
        for name, content in artifacts.predictions(self.dataset, predictions).items():
            self.logger.artifact(f"predictions/{name}", content)
