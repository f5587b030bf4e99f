"""Bad input is refused at construction, by one sentence that names the parameter and what is allowed."""

import numpy as np
import pytest

from quenched.laws import DenseTokens, Law, SpectralLaw, SpectralTokens, from_data, mixture, nodes, sequence, single
from quenched.laws.spectrum import common_eigenbasis

ISO = SpectralLaw.isotropic(gram=np.eye(2))
ONE = [[[1.0]]]

CASES = {
    # spectral laws
    "negative weight": (lambda: SpectralLaw([1.5, -0.5], [1, 2]), "weights must be non-negative and sum to one"),
    "weights sum": (lambda: SpectralLaw([0.5, 0.6], [1, 2]), "weights must be non-negative and sum to one"),
    "no weights": (lambda: SpectralLaw([], []), "weights must be non-negative and sum to one"),
    "weights shape": (lambda: SpectralLaw([[1.0]], [1]), "weights must have 1 axes"),
    "words as weights": (lambda: SpectralLaw(["a"], [1]), "weights must be an array of numbers"),
    "negative eigenvalue": (lambda: SpectralLaw([0.5, 0.5], [1, -2]), "eigenvalues must be non-negative, got -2"),
    "infinite eigenvalue": (lambda: SpectralLaw([1.0], [np.inf]), "eigenvalues must hold finite numbers"),
    "eigenvalues rows": (lambda: SpectralLaw([0.5, 0.5], [1.0]), r"eigenvalues must have the shape \(2, B\)"),
    "eigenvalues columns": (lambda: SpectralLaw([1.0], np.zeros((1, 0))), r"eigenvalues must have the shape \(1, B\)"),
    "gram indefinite": (
        lambda: SpectralLaw([1.0], [1.0], [[1, 2], [2, 1]]),
        "gram must be positive semi-definite .* -1",
    ),
    "gram one atom bad": (
        lambda: SpectralLaw([0.5, 0.5], [1, 2], [np.eye(1), -np.eye(1)]),
        "gram must be positive semi-definite",
    ),
    "gram skew": (lambda: SpectralLaw([1.0], [1.0], [[1, 0.5], [0, 1]]), "gram must be symmetric"),
    "gram shape": (lambda: SpectralLaw([1.0], [1.0], [[1, 0]]), r"gram must have the shape \(1, k, k\)"),
    "gram vector": (lambda: SpectralLaw([1.0], [1.0], [1.0]), r"gram must have the shape \(1, k, k\)"),
    "gram atoms": (lambda: SpectralLaw([1.0], [1.0], np.ones((2, 1, 1))), "gram must have one .* each of the 1 atoms"),
    "gram and directions": (
        lambda: SpectralLaw([1.0], [1.0], [[1.0]], directions=[[1.0]]),
        "gram and directions are two ways",
    ),
    "directions rows": (lambda: SpectralLaw([1.0], [1.0], directions=[[1.0], [2.0]]), "directions must have the shape"),
    "variance": (lambda: SpectralLaw.isotropic(-1.0), "variance must be non-negative, got -1.0"),
    "variance axes": (lambda: SpectralLaw.isotropic([[1.0]]), "variance must be a number or a vector"),
    "exponent": (lambda: SpectralLaw.power_law(np.nan, 5), "exponent must be a finite number"),
    "dim": (lambda: SpectralLaw.power_law(1.0, 0), "dim must be a whole number of at least 1"),
    "power-law nodes": (lambda: SpectralLaw.power_law(1.0, 50, nodes=1), "nodes must be a whole number of at least 2"),
    "power-law variance": (lambda: SpectralLaw.power_law(1.0, 5, variance=0), "variance must be positive, got 0"),
    "ratio": (lambda: SpectralLaw.marchenko_pastur(0.0), "ratio must be positive, got 0.0"),
    "MP nodes": (lambda: SpectralLaw.marchenko_pastur(1.0, nodes=0), "nodes must be a whole number"),
    "not square": (lambda: common_eigenbasis(np.ones((1, 2, 3))), r"covariances\[0\] must be a square matrix"),
    "not symmetric": (lambda: SpectralLaw.from_matrices([[1, 1], [0, 1]]), r"covariances\[0\] must be symmetric"),
    "indefinite": (
        lambda: SpectralLaw.from_matrices([[1, 2], [2, 1]]),
        r"covariances\[0\] must be positive semi-definite",
    ),
    "means dimension": (lambda: SpectralLaw.from_matrices(np.eye(2), [[1, 2, 3]]), "means must have the shape"),
    "targets dimension": (lambda: SpectralLaw.from_matrices(np.eye(2), None, [1, 2, 3]), "targets must have the shape"),
    "data axes": (lambda: SpectralLaw.from_data(np.ones(3)), "X must have 2 axes"),
    "data labels": (lambda: from_data(np.ones((3, 2)), [0, 1]), "y must hold one class for each of the 3 rows"),
    "data too few": (lambda: from_data(np.eye(2), [0, 1]), "y must have samples enough"),
    "data one sample": (lambda: from_data(np.eye(3), [0, 0, 1], covariance="class"), "y must have samples enough"),
    "data covariance": (
        lambda: from_data(np.eye(3), [0, 0, 1], covariance="diag"),
        "covariance must be one of 'pooled', 'class'",
    ),
    "with_targets": (lambda: ISO.with_targets(-1), "targets must be a whole number of at least 0"),
    # token laws
    "spectrum type": (lambda: SpectralTokens([1.0], [1.0]), "spectrum must be a SpectralLaw, got list"),
    "prob": (lambda: SpectralTokens(ISO, [0.5, 0.6]), "prob must be non-negative and sum to one"),
    "mean shape": (lambda: SpectralTokens(ISO, [1.0], np.ones((2, 1, 1)), ONE), "mean must have the shape"),
    "mean axes": (lambda: SpectralTokens(ISO, [1.0], np.ones((1, 1))), "must have the shape"),
    "too many means": (lambda: SpectralTokens(ISO, [1.0], np.ones((1, 1, 3))), "mean must have at most 2 directions"),
    "cov shape": (lambda: SpectralTokens(ISO, [1.0], None, [[[1.0, 1.0]]]), "cov must have the shape"),
    "cov negative": (lambda: SpectralTokens(ISO, [1.0], None, [[[-1.0]]]), "cov must give every token .* got -1"),
    "cov missing": (lambda: SpectralTokens(SpectralLaw.isotropic([1.0, 2.0]), [1.0]), "cov must say which of the 2"),
    "value": (
        lambda: SpectralTokens(ISO, [1.0], value=[1.0, 2.0]),
        "value must hold one entry for each of the 1 labels",
    ),
    "value scalar": (lambda: SpectralTokens(ISO, [1.0], value={"a": 1.0}), "value must hold one entry for each"),
    "value NaN": (lambda: SpectralTokens(ISO, [1.0], value=[np.nan]), "value must hold finite numbers"),
    "size": (lambda: SpectralTokens(ISO, [1.0], size=0.0), "size must be positive, got 0.0"),
    "free count": (
        lambda: SpectralTokens(ISO, [1.0], ONE, free=(True, False)),
        "free must hold one bool for each of the 1",
    ),
    "free kind": (lambda: SpectralTokens(ISO, [1.0], ONE, free=(1,)), "free must hold one bool"),
    "free row": (lambda: SpectralTokens(ISO, [1.0], ONE, free=(True,)), "free must name directions that are zero rows"),
    "dense covariance": (
        lambda: DenseTokens([[1, 2], [2, 1]], None, None, [1.0]),
        r"covariances\[0\] must be positive semi",
    ),
    "dense shape": (
        lambda: DenseTokens(np.ones(3), None, None, [1.0]),
        r"covariances must have the shape \(B, d0, d0\)",
    ),
    "dense means": (lambda: DenseTokens(np.eye(2), [[1.0]], None, [1.0]), "means must have the shape"),
    "dense target": (lambda: DenseTokens(np.eye(2), None, [1.0], [1.0]), "target must have the shape"),
    "dense mean": (lambda: DenseTokens(np.eye(2), [[1.0, 0.0]], None, [1.0]), "mean must have 1 directions"),
    "dense free": (
        lambda: DenseTokens(np.eye(1), [[1.0]], None, [1.0], ONE, free=(True,)),
        "free must name directions",
    ),
    # constructors
    "single spectrum": (lambda: single([1.0, -1.0]), r"covariances\[0\] must be non-negative, got -1"),
    "single matrix": (
        lambda: single(np.ones((2, 3))),
        r"covariances\[0\] must be a number, a vector or a square matrix",
    ),
    "single targets": (lambda: single(targets=-1), "targets must be a whole number of at least 0, got -1"),
    "single target size": (lambda: single([1.0, 2.0], targets=[1.0, 2.0, 3.0]), "must have one dimension d0"),
    "single target count": (lambda: single(ISO, targets=1), "targets must be 2, what the spectrum has"),
    "single target array": (lambda: single(ISO, targets=[1.0]), "targets must be a number where a spectrum is given"),
    "mixture weights": (lambda: mixture([0.2, 0.2]), "weights must be non-negative and sum to one"),
    "means and gram": (lambda: mixture([1.0], [[1.0]], [[1.0]]), "means and gram are two ways to say the same"),
    "spectrum and means": (lambda: mixture([1.0], [[1.0]], spectrum=ISO), "spectrum and means are two ways"),
    "spectrum and gram": (lambda: mixture([1.0], gram=[[1.0]], spectrum=ISO), "spectrum and gram are two ways"),
    "spectrum and covariances": (
        lambda: mixture([1.0], covariances=2.0, spectrum=ISO),
        "spectrum and covariances are two",
    ),
    "spectrum kind": (lambda: mixture([1.0], spectrum=[1.0]), "spectrum must be a SpectralLaw, got list"),
    "spectrum dense": (lambda: single(ISO) and mixture([1.0], spectrum=ISO, dense=True), "dense must be False"),
    "means count": (
        lambda: mixture([0.5, 0.5], [[1.0]]),
        r"means \(or gram\) must have one entry for each of the 2 classes",
    ),
    "means axes": (lambda: mixture([0.5, 0.5], [1.0, 2.0]), "means must have 2 axes"),
    "gram count": (lambda: mixture([0.5, 0.5], gram=np.eye(3)), r"means \(or gram\) must have one entry"),
    "gram not PSD": (lambda: mixture([0.5, 0.5], gram=[[1, 2], [2, 1]]), "gram must be positive semi-definite"),
    "covariances count": (
        lambda: mixture([0.5, 0.5], covariances=[1, 2, 3]),
        "covariances must have one entry for each of the 2",
    ),
    "covariances empty": (lambda: mixture([0.5, 0.5], covariances=[]), "covariances must hold at least one entry"),
    "covariances negative": (
        lambda: mixture([0.5, 0.5], covariances=[1.0, -1.0]),
        r"covariances\[1\] must be non-negative",
    ),
    "covariances matrix": (
        lambda: mixture([1.0], covariances=[[[1, 2], [2, 1]]]),
        r"covariances\[0\] must be positive semi",
    ),
    "covariances shapes": (lambda: mixture([0.5, 0.5], covariances=[[1, 2], [1, 2, 3]]), "must have one dimension d0"),
    "means against covariances": (lambda: mixture([1.0], [[1.0]], covariances=[[1, 2]]), "must have one dimension d0"),
    "spectrum columns": (
        lambda: mixture([0.5, 0.5], spectrum=SpectralLaw.isotropic([1, 2, 3])),
        "covariances must have one entry for each of the 2",
    ),
    "spectrum directions": (
        lambda: mixture(np.full(3, 1 / 3), spectrum=ISO),
        "spectrum must have a mean direction for each of the 3 classes, got 2 directions",
    ),
    "labels count": (
        lambda: mixture([0.5, 0.5], labels=[1.0]),
        r"labels must hold one entry for each of the 2 classes, got \[1.0\]",
    ),
    "labels scalar": (
        lambda: mixture([0.5, 0.5], labels=1),
        "labels must hold one entry for each of the 2 classes, got 1",
    ),
    "dense scalars": (lambda: mixture([1.0], dense=True), "dense must be False where all covariances are numbers"),
    "dense gram": (
        lambda: mixture([1.0], gram=[[1.0]], covariances=[[1, 2]], dense=True),
        "gram must be None where dense",
    ),
    "dense targets": (
        lambda: mixture([1.0], covariances=[[1, 2]], targets=1, dense=True),
        "targets must be explicit vectors",
    ),
    "classes and mean": (lambda: sequence([1.0], mean=ONE, classes=[[0]]), "classes and mean are two ways"),
    "classes and cov": (lambda: sequence([1.0], cov=ONE, classes=[[0]]), "classes and cov are two ways"),
    "classes shape": (lambda: sequence([0.5, 0.5], classes=[[0]]), r"classes must be a \(2, L\) array"),
    "classes kind": (lambda: sequence([1.0], classes=[[0.5]]), r"classes must be a \(1, L\) array of class indices"),
    "classes negative": (lambda: sequence([1.0], classes=[[-1]]), r"classes must be a \(1, L\) array of class indices"),
    "mean coefficients": (
        lambda: sequence([1.0], mean=[[[1.0, 2.0]]], gram=[[1.0]]),
        r"mean must have the shape \(C, L, 1\)",
    ),
    "mean missing": (lambda: sequence([1.0], gram=[[1.0]]), "mean .or classes. must say what each token has"),
    "cov coefficients": (
        lambda: sequence([1.0], cov=ONE, covariances=[1.0, 2.0]),
        r"cov must have the shape \(C, L, 2\)",
    ),
    "cov absent": (lambda: sequence([1.0], covariances=[1.0, 2.0]), "cov .or classes. must say what each token has"),
    "sequence value": (lambda: sequence([1.0], value=[1, 2]), "value must hold one entry for each of the 1 labels"),
    "targets kind": (lambda: sequence([1.0], targets=1.5), "targets must be a whole number"),
    # nodes
    "node count": (lambda: nodes.normal(0), "count must be a whole number of at least 1"),
    "sigma": (lambda: nodes.lognormal(5, sigma=-1.0), "sigma must be non-negative, got -1.0"),
    "shape": (lambda: nodes.gamma(5, 0.0), "shape must be positive, got 0.0"),
    "scale": (lambda: nodes.gamma(5, 1.0, -1.0), "scale must be positive, got -1.0"),
    "beta": (lambda: nodes.beta(5, 1.0, -1.0), "b must be positive, got -1.0"),
    "interval": (lambda: nodes.beta(5, 1.0, 1.0, 1.0, 0.0), "low must be smaller than high, got 1.0 and 0.0"),
}


@pytest.mark.parametrize(("build", "sentence"), CASES.values(), ids=CASES)
def test_refused_with_one_sentence(build, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_a_law_that_cannot_draw_says_so():
    class Silent(Law):
        size: float = 1.0
        free: tuple = ()

    with pytest.raises(TypeError, match="Silent cannot draw samples"):
        Silent().draw(0, 1, 1)
    with pytest.raises(TypeError, match="Silent has no spectral atoms"):
        Silent().atoms()
    with pytest.raises(TypeError, match="Silent has no population"):
        Silent().population(0, 1)
    with pytest.raises(TypeError, match="Silent cannot draw samples"):
        Silent().sample(single().population(0, 2), 0, 1)


@pytest.mark.parametrize("name", ["direction", "covariance"])
def test_unknown_arguments_are_refused(name):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        mixture([1.0], **{name: 1.0})
