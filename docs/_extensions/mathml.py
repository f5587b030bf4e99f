"""Mathematics as MathML, translated when the pages are built: they need no network, no script and no fonts to be read.

A formula that the translator (of docutils) does not understand is a warning, so that a broken formula breaks the build.
"""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ET

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)

MATHML = "http://www.w3.org/1998/Math/MathML"
ACCENTS = "ˆ˜¯˙¨→^~"
ET.register_namespace("", MATHML)


def argument(source: str, at: int) -> tuple[str, int]:
    """The argument of a command that begins at ``at`` as TeX reads it (a group, a command, one character), and its end."""
    while source[at].isspace():
        at += 1
    if source[at] == "{":
        depth, end = 0, at
        while True:
            depth += {"{": 1, "}": -1}.get(source[end], 0) if source[end - 1] != "\\" else 0
            end += 1
            if depth == 0:
                return source[at + 1 : end - 1], end
    command = re.compile(r"\\([a-zA-Z]+|.)").match(source, at)
    return (command[0], command.end()) if command else (source[at], at + 1)


def normalised(source: str) -> str:
    r"""What the translator reads otherwise than TeX does, written out: ``\frac12``, ``\tfrac``, ``\Big(``, ``\dots``."""
    source = re.sub(r"\\[dt]frac\b", r"\\frac", source.strip())
    source = re.sub(r"\\dots\b", r"\\ldots", source)
    source = re.sub(r"\\([bB])ig(?=\s*(\(|\[|\\\{|\\langle))", r"\\\1igl", source)
    source = re.sub(r"\\([bB])ig(?=\s*(\)|\]|\\\}|\\rangle))", r"\\\1igr", source)
    source = re.sub(r"\\[bB]ig\s*\|", "|", source)
    done, at = "", 0
    for place in re.finditer(r"\\frac(?![a-zA-Z])", source):
        if place.start() < at:
            continue
        above, end = argument(source, place.end())
        below, end = argument(source, end)
        done += source[at : place.start()] + rf"\frac{{{normalised(above)}}}{{{normalised(below)}}}"
        at = end
    return done + source[at:]


def corrected(text: str) -> str:
    """An index of an accented letter stands beside it and not below; bars are as tall as what they are beside."""
    names = {"lt", "gt", "amp", "quot"}
    text = re.sub(r"&(\w+);", lambda found: found[0] if found[1] in names else html.unescape(found[0]), text)
    tree = ET.fromstring(text)
    for element in tree.iter():
        kind = element.tag.rpartition("}")[2]
        if kind == "munderover" and (element[2].text or " ") in ACCENTS:
            base, below, accent = list(element)
            over = ET.Element(f"{{{MATHML}}}mover", accent="true")
            over.extend([base, accent])
            element[:], element.tag = [over, below], f"{{{MATHML}}}msub"
        elif kind == "mo" and element.text in ("‖", "|", "∣"):
            element.set("stretchy", "false")
    return ET.tostring(tree, encoding="unicode")


def translated(source: str, block: bool, node) -> str:
    """MathML of a formula, or the formula as it stands, with a warning."""
    try:
        text = normalised(source)
        if block and re.search(r"(?<!\\)\\\\", text) and r"\begin{" not in text:
            text = rf"\begin{{aligned}}{text}\end{{aligned}}"
        return corrected(tex2mathml(text, as_block=block))
    except (MathError, SyntaxError, IndexError) as error:
        logger.warning("cannot translate the formula %r: %s", source, error, location=node, type="mathml")
        return f"<code>{html.escape(source)}</code>"


def visit_inline(self, node):
    self.body.append(self.starttag(node, "span", "", CLASS="math notranslate nohighlight"))
    self.body.append(translated(node.astext(), False, node) + "</span>")
    raise nodes.SkipNode


def visit_block(self, node):
    self.body.append(self.starttag(node, "div", CLASS="math notranslate nohighlight"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(translated(node.astext(), True, node) + "</div>\n")
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", inline_renderers=(visit_inline, None), block_renderers=(visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
