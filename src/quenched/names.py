"""The one registry of names: what a parameter, order parameter or observable is called, printed and drawn as."""

import re
from typing import NamedTuple


class Name(NamedTuple):
    """``label`` is LaTeX for an axis, ``unit`` plain text, ``description`` one line for a reader.

    >>> NAMES["test_error"].unit, NAMES["test_error"].description
    ('fraction of wrong labels', 'probability of a wrong label on fresh data')
    """

    label: str
    unit: str
    description: str


NAMES = {
    # parameters
    "alpha": Name(
        r"samples per dimension $\alpha = n/d$", "samples per input dimension", "number of samples over input dimension"
    ),
    "weight_decay": Name(r"weight decay $\lambda$", "1", "strength of the penalty (weight_decay/2) |w|^2"),
    "noise": Name(r"noise variance $\Delta$", "1", "variance of the noise"),
    "units": Name(r"hidden units $r$", "1", "number of hidden units"),
    "target_units": Name(r"hidden units of the target $t$", "1", "number of hidden units of the target"),
    "length": Name(r"tokens $L$", "tokens", "number of tokens per sample"),
    "width_ratio": Name(r"features per dimension $p/d$", "1", "number of features over input dimension"),
    "separation": Name("separation", "1", "norm of the clusters' means; for flows its square over the dimension"),
    "positive": Name("share of positives", "probability", "probability of a pair that belongs together, or of the cluster +1"),
    "learning_rate": Name(r"learning rate $\eta$", "1", "learning rate"),
    "dim": Name(r"dimension $d$", "1", "input dimension of the experiment"),
    "penalty": Name("penalty", "1", "scikit-learn's alpha: sum of squares + penalty |w|^2"),
    "time": Name(r"time $t$ (steps$/d$)", "steps per input dimension", "number of steps of SGD over the input dimension"),
    "step": Name(r"step $t$", "1", "number of steps taken"),
    "n_samples": Name(r"samples $n$", "samples", "number of samples"),
    "cluster_std": Name(r"cluster size $\sigma$", "input units", "standard deviation of the clusters, per direction"),
    "schedule": Name("schedule", "1", "how noise turns into data along a flow"),
    "noises_per_sample": Name(r"noises per sample $P$", "noises", "number of noises that each sample is trained with"),
    "noises": Name("noises", "1", "whether all times of a flow are trained with the same noises, or each with fresh ones"),
    "means_gram": Name(r"means' products $T$", "1", "inner products of the clusters' means over the dimension"),
    "cluster_stds": Name(r"cluster sizes $\sigma_k$", "input units", "standard deviations of the clusters, per direction"),
    "samples_per_cluster": Name("samples per cluster", "samples", "number of samples of each cluster"),
    "omega": Name(r"positional share $\omega$", "1", "share of the positional matrix in the target"),
    "rank": Name(r"rank $r$", "1", "columns of the queries' and keys' weights"),
    "target_rank": Name(r"rank of the target $t$", "1", "columns of the target's weights"),
    "positional_matrix": Name("positional matrix", "1", "how the target mixes positions"),
    "positions": Name("positional encodings", "input units", "coordinates of the positional encodings"),
    "token_std": Name(r"token size $\sigma$", "input units", "standard deviation of the tokens"),
    "alpha0": Name(r"samples of the step $\alpha_0 = n_0/d$", "samples per input dimension", "samples of the gradient step over d"),
    "readout_values": Name("initial readout", "1", "values of the readout at initialisation, times the root of the width"),
    "readout_probabilities": Name("shares of the initial readout", "probability", "how many neurons have each of these values"),
    "refined": Name("refined map", "1", "whether small parts of the gradient that all rows share are kept"),
    "width": Name("width $p$", "neurons", "number of neurons, for its leading effect"),
    "learner": Name("learner", "1", "the network whose readout is trained"),
    "readout": Name(r"readout of the target $\theta_*$", "1", "the target's own readout"),
    "shared": Name("shared layers", "layers", "how many first layers learner and target have in common"),
    "correlation": Name("correlated layers", "1", "correlation of the target's weights with the learner's, layer by layer"),
    "widths": Name("widths", "1", "widths of the target's layers, inputs first, or over the input dimension"),
    "activations": Name("activations", "1", "activations of the target's hidden layers"),
    "task": Name("task", "1", "regression or classification"),
    "weight_variances": Name(r"weight variances $\Delta_l$", "1", "variances of the weights of the target's hidden layers"),
    "readout_variance": Name(r"readout variance $\Delta_a$", "1", "variance of the weights of the target's readout"),
    "surrogate": Name("Gaussian surrogate", "1", "whether Gaussian features stand for the networks' own"),
    "skip_learning_rate": Name(r"learning rate of the skip connection $\eta_b$", "1", "learning rate of the skip connection"),
    "times": Name("times", "1", "times (of the schedule) at which a denoiser is trained"),
    "time_weights": Name("weights of the times", "1", "how often, or how much, each time counts"),
    "mode": Name("mode", "1", "whether a step draws one of the times or sums over them"),
    "training_time": Name(r"training time $\tau$ (steps$/d$)", "steps per input dimension", "steps of SGD over the dimension"),
    "initialisation": Name("initialisation", "1", "statistics of the initial weights"),
    "generation": Name("generation", "1", "how often a model was trained on what the one before generated"),
    # observables
    "test_error": Name("test error", "fraction of wrong labels", "probability of a wrong label on fresh data"),
    "test_mse": Name("test mean square", "label units squared", "mean square distance to the clean target, fresh data"),
    "test_mse_noisy": Name(
        "test mean square, noisy labels", "label units squared", "mean square distance to the noisy label, fresh data"
    ),
    "test_mse_clean": Name(
        "test mean square, clean target", "label units squared", "mean square distance to the target itself, fresh data"
    ),
    "test_error_clean": Name(
        "test error, clean labels", "fraction of wrong labels", "probability of a sign other than the target's own, fresh data"
    ),
    "mmse": Name(r"$|S - \hat S|^2/d$", "1", "mean square error of the matrix that a quadratic network multiplies by"),
    "kernel_test_mse": Name("test mean square, best kernel", "label units squared", "test_mse of the best kernel"),
    "kernel_test_mse_clean": Name(
        "test mean square, best kernel, clean target", "label units squared", "test_mse_clean of the best kernel"
    ),
    "kernel_mmse": Name(r"$|S - \hat S|^2/d$ of the best kernel", "1", "mmse of the best kernel"),
    "t": Name(r"noise of the matrix $t$", "1", "variance of the noise through which samples show the matrix"),
    "mutual_information": Name(
        "mutual information per dimension", "nats", "information that the labels hold about the target, per dimension"
    ),
    "test_loss": Name("test loss", "loss units", "mean loss on fresh data"),
    "train_loss": Name("training loss", "loss units", "mean loss per training sample, without the penalty"),
    "train_mse": Name("training mean square", "label units squared", "mean squared residual on the training set"),
    "free_energy": Name("penalised risk per dimension", "loss units", "minimum of the penalised risk, per dimension"),
    "cosine": Name(
        r"cosine with the target $\cos(w, w_*)$", "1", "cosine similarity of weights and target on the inputs"
    ),
    "test_mse_excess": Name(
        "excess test error", "input units squared", "mean square error in excess of the best rescaling's, fresh data"
    ),
    "train_mse_excess": Name(
        "excess training error", "input units squared", "mean square error in excess of the best rescaling's, training data"
    ),
    "rescaling_mse_per_dim": Name(
        "error of the rescaling per dimension", "input units squared", "mean square error of b y, per dimension"
    ),
    "bistable_mass": Name(
        "bistable mass", "probability", "how often the proximal problem has several minima: replica symmetry is approximate"
    ),
    "linear_attention_mse": Name(
        "test error of linear attention", "input units squared", "test error of the best linear positional attention"
    ),
    "skip": Name(r"skip connection $b$", "1", "strength of the skip connection"),
    "spike": Name(r"spike strength $r$", "1", "component of the trained rows along their common direction"),
    "bulk_variance": Name(r"bulk variance $c$", "1", "squared length of the rest of the trained rows"),
    "alignment": Name(r"alignment $\gamma$", "1", "cosine of the rows' common direction with the target's"),
    "mean_mse": Name(r"$|\hat\mu - \mu|^2/d$", "input units squared", "mean square error of the generated cluster's mean"),
    "cluster_variance": Name(r"cluster variance $S$", "input units squared", "variance of the generated clusters, per direction"),
    "sample_cosine": Name(r"$\cos(X, \mu)$", "1", "cosine of a generated sample and its cluster's true mean"),
    "squared_norm": Name(r"$|X|^2/d$", "input units squared", "squared norm of a generated sample, per dimension"),
    "wasserstein": Name(
        r"$W_2^2/d$", "input units squared", "squared Wasserstein distance of a generated cluster to the true one, per dimension"
    ),
    "positive_fraction": Name("generated share of the cluster +1", "probability", "how often the cluster +1 is generated"),
    "unresolved_times": Name("unresolved times", "times", "times close to the ends at which training found no stationary point"),
    "bayes_mse": Name(r"Bayes-optimal $|\hat\mu - \mu|^2/d$", "input units squared", "mean_mse of the best estimate of the mean"),
    "bayes_cosine": Name("Bayes-optimal cosine", "1", "cosine of the best estimate of the mean and the mean"),
    "mode_probability": Name("probability of a mode", "probability", "how often the hidden units answer so, or all the opposite"),
    "sample_overlap": Name(r"$X \cdot x_1^\mu/d$", "input units squared", "inner product with the training samples, per dimension"),
    "M": Name(r"$M$", "1", "w.mu / sqrt(d), overlap of the weights with the means"),
    "b": Name(r"skip connection $b$", "1", "strength of the skip connection"),
    "L": Name(r"risk $L$", "1", "part of order one of the population risk"),
    "H": Name(r"$H$", "1", "overlap of the weights with orthonormal directions"),
    "fractions": Name("share of samples", "probability", "share of generated samples nearest to each cluster's mean"),
    "W1": Name(r"$W_1$ to the target", "data units", "Wasserstein distance of the marginals of samples and target"),
    # order parameters and their conjugates
    "R": Name(r"$R$", "1", "component of the generated mean along the true mean"),
    "c_eta": Name(r"$c_\eta$", "1", "component of the generated mean along the mean deviation of the training samples"),
    "c_xi": Name(r"$c_\xi$", "1", "component of the generated mean along the mean noise of the training set"),
    "S": Name(r"$S$", "1", "variance of the generated clusters, per direction"),
    "E": Name(r"$E$", "1", "what the hidden units answer to the training set"),
    "q": Name(r"$q$", "1", "w^T S w / d, the self-overlap of the weights"),
    "V": Name(r"$V$", "1", "susceptibility, the response of the overlap to a field"),
    "m": Name(r"$m$", "1", "w^T mu / sqrt(d), overlap of the weights with the means"),
    "theta": Name(r"$\theta$", "1", "w^T S w_* / d, overlap of the weights with the target"),
    "Q": Name(r"$Q$", "1", "w^T w / d, squared norm of the weights per dimension"),
    "psi": Name(r"$\psi$", "1", "readout times the rows' components along the target's directions beside the spike"),
    "lengths": Name(r"$u$", "1", "readout times the rows' squared lengths about their mean"),
    "q_hat": Name(r"$\hat q$", "1", "conjugate of V"),
    "V_hat": Name(r"$\hat V$", "1", "conjugate of q"),
    "m_hat": Name(r"$\hat m$", "1", "conjugate of m"),
    "theta_hat": Name(r"$\hat \theta$", "1", "conjugate of theta"),
    "Q_hat": Name(r"$\hat Q$", "1", "conjugate of Q"),
    # diagnostics
    "residual": Name("relative residual", "1", "relative change in one undamped update at the result"),
    "quadrature_error": Name("quadrature error", "1", "relative change of the result under a finer quadrature"),
    "replicon": Name("replicon", "1", "replica symmetry is stable where it is below one"),
}


def label(name: str) -> str:
    r"""The axis label of a name; a name that is not in the registry is spelt out.

    >>> label("alpha"), label("my_own_error")
    ('samples per dimension $\\alpha = n/d$', 'my own error')
    """
    return NAMES[name].label if name in NAMES else name.replace("_", " ")


def symbol(name: str) -> str:
    r"""The shortest form, for legends: the mathematics of the label up to its "=", or all of a label without any.

    >>> symbol("alpha"), symbol("weight_decay"), symbol("test_error")
    ('$\\alpha$', '$\\lambda$', 'test error')
    """
    mathematics = re.search(r"\$([^$=]+?)(?: =[^$]*)?\$", label(name))
    return f"${mathematics[1]}$" if mathematics else label(name)


def attributes(name: str) -> dict[str, str]:
    """The attributes of a data variable, as xarray and NetCDF readers expect them: ``long_name`` and ``units``.

    >>> attributes("test_error")
    {'long_name': 'probability of a wrong label on fresh data', 'units': 'fraction of wrong labels'}
    """
    known = NAMES.get(name)
    return {"long_name": known.description, "units": known.unit} if known else {"long_name": name.replace("_", " ")}
