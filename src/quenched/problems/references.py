"""The bibliography: BibTeX by key."""

from __future__ import annotations

_ENTRIES = {
    "cui2025diffusion": """@article{cui2025diffusion,
  title={A precise asymptotic analysis of learning diffusion models: theory and insights},
  author={Cui, Hugo and Pehlevan, Cengiz and Lu, Yue M.}, journal={arXiv:2501.03937}, year={2025}}""",
    "cui2024narrow": """@article{cui2024narrow,
  title={High-dimensional learning of narrow neural networks},
  author={Cui, Hugo}, journal={arXiv:2409.13904}, year={2024}}""",
    "cui2023autoencoders": """@article{cui2023autoencoders,
  title={High-dimensional asymptotics of denoising autoencoders},
  author={Cui, Hugo and Zdeborov{\\'a}, Lenka}, journal={arXiv:2305.11041}, year={2023}}""",
    "cui2024attention": """@article{cui2024attention,
  title={A phase transition between positional and semantic learning in a solvable model of dot-product attention},
  author={Cui, Hugo and Behrens, Freya and Krzakala, Florent and Zdeborov{\\'a}, Lenka},
  journal={arXiv:2402.03902}, year={2024}}""",
    "cui2024asymptotics": """@inproceedings{cui2024asymptotics,
  title={Asymptotics of feature learning in two-layer networks after one gradient-step},
  author={Cui, Hugo and Pesce, Luca and Dandi, Yatin and Krzakala, Florent and Lu, Yue M. and Zdeborov{\\'a}, Lenka and
    Loureiro, Bruno}, booktitle={ICML}, note={arXiv:2402.04980}, year={2024}}""",
    "dandi2024random": """@article{dandi2024random,
  title={A random matrix theory perspective on the spectrum of learned features and asymptotic generalization capabilities},
  author={Dandi, Yatin and Pesce, Luca and Cui, Hugo and Krzakala, Florent and Lu, Yue M. and Loureiro, Bruno},
  journal={arXiv:2410.18938}, year={2024}}""",
    "ba2022high": """@inproceedings{ba2022high,
  title={High-dimensional asymptotics of feature learning: how one gradient step improves the representation},
  author={Ba, Jimmy and Erdogdu, Murat A. and Suzuki, Taiji and Wang, Zhichao and Wu, Denny and Yang, Greg},
  booktitle={NeurIPS}, note={arXiv:2205.01445}, year={2022}}""",
    "loureiro2021learning": """@article{loureiro2021learning,
  title={Learning curves of generic features maps for realistic datasets with a teacher-student model},
  author={Loureiro, Bruno and Gerbelot, C{\\'e}dric and Cui, Hugo and Goldt, Sebastian and Krzakala, Florent and
    M{\\'e}zard, Marc and Zdeborov{\\'a}, Lenka}, journal={arXiv:2102.08127}, year={2021}}""",
    "loureiro2021gaussian": """@article{loureiro2021gaussian,
  title={Learning Gaussian mixtures with generalised linear models: precise asymptotics in high-dimensions},
  author={Loureiro, Bruno and Sicuro, Gabriele and Gerbelot, C{\\'e}dric and Pacco, Alessandro and Krzakala, Florent and
    Zdeborov{\\'a}, Lenka}, journal={arXiv:2106.03791}, year={2021}}""",
    "schroeder2023deterministic": """@article{schroeder2023deterministic,
  title={Deterministic equivalent and error universality of deep random features learning},
  author={Schr{\\"o}der, Dominik and Cui, Hugo and Dmitriev, Daniil and Loureiro, Bruno},
  journal={arXiv:2302.00401}, year={2023}}""",
    "schroeder2024structured": """@article{schroeder2024structured,
  title={Asymptotics of learning with deep structured (random) features},
  author={Schr{\\"o}der, Dominik and Dmitriev, Daniil and Cui, Hugo and Loureiro, Bruno},
  journal={arXiv:2402.13999}, year={2024}}""",
    "cui2023bayes": """@article{cui2023bayes,
  title={Bayes-optimal learning of deep random networks of extensive-width},
  author={Cui, Hugo and Krzakala, Florent and Zdeborov{\\'a}, Lenka}, journal={arXiv:2302.00375}, year={2023}}""",
    "cui2023flow": """@article{cui2023flow,
  title={Analysis of learning a flow-based generative model from limited sample complexity},
  author={Cui, Hugo and Krzakala, Florent and Vanden-Eijnden, Eric and Zdeborov{\\'a}, Lenka},
  journal={arXiv:2310.03575}, year={2023}}""",
    "maillard2024quadratic": """@article{maillard2024quadratic,
  title={Bayes-optimal learning of an extensive-width neural network from quadratically many samples},
  author={Maillard, Antoine and Troiani, Emanuele and Martin, Simon and Krzakala, Florent and Zdeborov{\\'a}, Lenka},
  journal={arXiv:2408.03733}, year={2024}}""",
    "aubin2018committee": """@article{aubin2018committee,
  title={The committee machine: computational to statistical gaps in learning a two-layers neural network},
  author={Aubin, Benjamin and Maillard, Antoine and Barbier, Jean and Krzakala, Florent and Macris, Nicolas and
    Zdeborov{\\'a}, Lenka}, journal={arXiv:1806.05451}, year={2018}}""",
}


def bibtex(keys) -> str:
    """The entries of these keys, one after the other."""
    return "\n\n".join(_ENTRIES[key] for key in keys)
