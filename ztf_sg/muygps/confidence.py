"""How confident a decision must be: what leave-one-out predictions of the training set say of mistakes."""

import numpy as np

from ztf_sg.checks import is_number

CONTRADICTED = 0.01  # largest probability of a label that is taken for wrong


def confidence(probability):
    """Return the probability of the likelier class, (n,), for that of one of the two."""
    return np.maximum(probability, 1 - probability)


def judge(muygps):
    """Return what the training objects, each predicted from the others, say of a trained MuyGPSClassifier.

    Returns
    -------
    confidence : numpy.ndarray
        Of each prediction, (n,).
    wrong : numpy.ndarray
        Which predictions are wrong, bool (n,).
    contradicted : float
        Share of labels that the prediction contradicts with a probability above 0.99.
    """
    mean, variance = muygps.leave_one_out()
    agreement = mean * muygps.get_state()["targets"]
    agreed = muygps.probability(agreement, variance)
    return confidence(agreed), agreement <= 0, float(np.mean(agreed < CONTRADICTED))


def least_confidence(confidence, wrong, max_error):
    """Return the least confidence above which at most a share of the predictions is wrong.

    Among n predictions no share below 1/n can be seen.

    Parameters
    ----------
    confidence, wrong : numpy.ndarray
        Of predictions, (n,) each.
    max_error : float
        That share.

    Returns
    -------
    threshold : float
        The confidence, infinite if there is none.
    least : float
        The smallest share for which there is one.

    Raises
    ------
    ValueError
        If max_error is not a number of at least 0 and below 1.
    """
    if not (is_number(max_error) and 0 <= max_error < 1):
        raise ValueError(f"max_error: expected a number of at least 0 and below 1, got {max_error!r}")
    order = np.argsort(-confidence)
    ranked, mistakes = confidence[order], np.cumsum(wrong[order])
    last = np.append(ranked[1:] * (1 + 1e-12) < ranked[:-1], True)  # of those that are equally confident
    shares = np.where(last, np.maximum(mistakes, 1) / np.arange(1, len(ranked) + 1), np.inf)
    decided = np.flatnonzero(shares <= max_error).max(initial=-1) + 1
    if not decided:
        threshold = np.inf
    elif decided == len(ranked):
        threshold = 0.0
    else:
        threshold = float(ranked[decided]) * (1 + 1e-12)
    return threshold, float(shares.min())


def doubts(max_error, n, least, contradicted):
    """Return why the answer for a share of mistakes is doubtful, as a text; empty if it is not.

    Parameters
    ----------
    max_error : float
        The share.
    n : int
        Training objects.
    least, contradicted : float
        See :func:`least_confidence` and :func:`judge`.
    """
    found = []
    if max_error < least:
        found.append(
            f"the {n} training objects can show no share of wrong answers below "
            f"{np.ceil(1e4 * least) / 1e4:.4f}, so that all objects are ambiguous"
        )
    if max_error < contradicted:
        found.append(
            f"about {contradicted:.2%} of the training labels seem wrong, which count as wrong answers"
        )
    return f"max_error={max_error:g}: {', and '.join(found)}" if found else ""
