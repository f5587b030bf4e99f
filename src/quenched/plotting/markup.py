r"""Labels of pictures, which hold mathematics between dollars, as the little HTML that pages and charts show."""

from __future__ import annotations

import html
import re
import textwrap
import unicodedata

_COMMANDS = {
    "cdot": "·", "infty": "∞", "top": "⊤", "min": "min", "max": "max", "cos": "cos", "sin": "sin", "tanh": "tanh", "log": "log",
    "exp": "exp", "sqrt": "√", "geq": "≥", "leq": "≤", "ge": "≥", "le": "≤", "approx": "≈", "times": "×", "pm": "±", "to": "→",
    "star": "⋆", "ell": "ℓ", "sim": "∼", "propto": "∝", "partial": "∂", "sum": "∑", "in": "∈", "neq": "≠", "ll": "≪", "gg": "≫",
    "langle": "⟨", "rangle": "⟩", "prime": "′", "dots": "…", "quad": " ", "left": "", "right": "", "varepsilon": "ε",
}  # fmt: skip
_ACCENTS = {"hat": "\u0302", "bar": "\u0304", "tilde": "\u0303", "dot": "\u0307"}
_SPACES = {",": "\u2009", ";": " ", ":": " ", "!": "", "\\": "<br>", "|": "‖"}
_UPRIGHT = ("mathrm", "text", "mathbf", "operatorname", "mathdefault", "rm")
_TOKEN = re.compile(r"\\([a-zA-Z]+)\s*|\\(.)|([{}_^])|([A-Za-z])|(\s+)|(.)", re.DOTALL)


def as_html(text: str) -> str:
    r"""A label as HTML: the mathematics between dollars becomes letters, <i>, <sub> and <sup>; the rest is escaped.

    >>> as_html(r"samples $\alpha = n/d$ < 2")
    'samples <i>α</i> = <i>n</i>/<i>d</i> &lt; 2'
    >>> as_html(r"$10^{-3}$, $\hat q_1$")
    '10<sup>−3</sup>, <i>q̂</i><sub>1</sub>'
    """
    parts = re.split(r"(?<!\\)\$", str(text))
    if len(parts) % 2 == 0:  # a lone dollar is a dollar
        return html.escape(str(text), quote=False)
    shown = [_mathematics(part) if k % 2 else html.escape(part.replace(r"\$", "$"), quote=False) for k, part in enumerate(parts)]
    return "".join(shown).replace("\n", "<br>")


def as_text(text: str) -> str:
    r"""A label without any markup.

    >>> as_text(r"time $t$ (steps$/d$)"), as_text("$p_1$")
    ('time t (steps/d)', 'p1')
    """
    return html.unescape(re.sub(r"</?(?:i|sub|sup|br)>", "", as_html(text)))


def wrapped(text: str, width: int = 44) -> str:
    """HTML of a label that is broken into lines of about ``width`` characters, where it has no markup.

    >>> wrapped("mean square distance to the clean target", 24)
    'mean square distance to<br>the clean target'
    """
    if len(as_text(text)) <= width or "$" in text:
        return as_html(text)
    return "<br>".join(as_html(line) for line in textwrap.wrap(text, width))


def _mathematics(source: str) -> str:
    shown, rest = _group([match.groups() for match in _TOKEN.finditer(source)], False)
    while rest:  # a brace that closes nothing
        more, rest = _group(rest[1:], False)
        shown += more
    return shown.replace("</i><i>", "")


def _group(tokens, upright: bool) -> tuple[str, list]:
    """HTML up to the brace that ends this group, and the tokens from that brace on."""
    shown = []
    while tokens and tokens[0][2] != "}":
        one, tokens = _one(tokens, upright)
        shown.append(one)
    return "".join(shown), tokens


def _one(tokens, upright: bool) -> tuple[str, list]:
    """HTML of one symbol, command or group, and the tokens after it."""
    (command, escaped, mark, letter, _, other), *tokens = tokens
    if mark == "{":
        shown, tokens = _group(tokens, upright)
        return shown, tokens[1:]
    if mark in ("_", "^"):
        inner, tokens = _one(_trimmed(tokens), upright) if tokens else ("", tokens)
        tag = "sub" if mark == "_" else "sup"
        return f"<{tag}>{inner}</{tag}>", tokens
    if command in _ACCENTS and tokens:
        inner, tokens = _one(_trimmed(tokens), upright)
        last = re.search(r"[^<>](?=(?:<[^>]*>)*$)", inner)
        place = last.end() if last else len(inner)
        return unicodedata.normalize("NFC", inner[:place] + _ACCENTS[command] + inner[place:]), tokens
    if command in _UPRIGHT and tokens:
        return _one(_trimmed(tokens), True)
    if command:
        return _command(command), tokens
    if escaped is not None:
        return _SPACES.get(escaped, html.escape(escaped, quote=False)), tokens
    if letter:
        return (letter if upright else f"<i>{letter}</i>"), tokens
    if other in ("=", "<", ">", "+"):
        return f" {html.escape(other)} ", _trimmed(tokens)
    return {"-": "−", "*": "∗", "'": "′", None: " " if upright else ""}.get(other, html.escape(other or "", quote=False)), tokens


def _trimmed(tokens) -> list:
    """The tokens from the first one that is no space."""
    start = next((k for k, token in enumerate(tokens) if token[4] is None), len(tokens))
    return list(tokens[start:])


def _command(name: str) -> str:
    if name in _COMMANDS:
        return _COMMANDS[name]
    case = "CAPITAL" if name[0].isupper() else "SMALL"
    try:
        letter = unicodedata.lookup(f"GREEK {case} LETTER {name.removeprefix('var').upper().replace('LAMBDA', 'LAMDA')}")
    except KeyError:
        return html.escape(name)
    return letter if name[0].isupper() else f"<i>{letter}</i>"
