"""How the docstrings of the package are read: reStructuredText, in which mathematics is written as one would type it.

Bars (``|w|^2``) are taken literally. Underlined sections become lists. A reference is resolved by its last name
where that is documented once; to an object that exists but has no page it stays text; to anything else it is a warning.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
import sys

from docutils import nodes

import quenched

_LITERAL = re.compile(r"(``.*?``|:[a-z]+:`[^`]*`)")


def sections(lines: list[str]) -> list[str]:
    """Underlined sections: their entries ``name : text`` (or ``Error``, then text) as a list."""
    done, section, at = [], None, 0
    while at < len(lines):
        line = lines[at]
        if at + 1 < len(lines) and line.strip() and re.fullmatch(r"-{3,}", lines[at + 1]):
            section = line.strip()
            done += ["", f"**{section}**", ""]
            at += 2
            continue
        entry = re.match(r"([\w*]+(?:, [\w*]+)*) : (.*)", line) if section == "Parameters" else None
        if entry:
            done.append(f"- ``{entry[1]}``: {entry[2]}")
        elif section == "Raises" and re.fullmatch(r"\w+", line):
            done.append(f"- ``{line}``:")
        elif section in ("Parameters", "Raises") and line.startswith("    "):
            done.append("  " + line.strip())
        else:
            section = section if not line.strip() or section not in ("Parameters", "Raises") else None
            done.append(line)
        at += 1
    return done


def read(app, what, name, obj, options, lines):
    done = []
    for line in sections(lines):
        if line.lstrip().startswith((">>>", "...")):
            done.append(line)
            continue
        parts = _LITERAL.split(line)
        parts[::2] = [re.sub(r"(?<!\\)\|", r"\\|", part) for part in parts[::2]]
        done.append("".join(parts))
    lines[:] = done


@functools.cache
def modules() -> tuple:
    """All modules of the package, imported."""
    names = [one.name for one in pkgutil.walk_packages(quenched.__path__, "quenched.") if not one.name.endswith("__main__")]
    return (quenched, *(importlib.import_module(name) for name in names))


def exists(target: str, owner: str) -> bool:
    """Whether a dotted name is an object: of a module of the package, of its class ``owner``, or of another module imported."""
    parts = target.split(".")
    inside = [parts, [owner, *parts]] if owner else [parts]
    named = [(sys.modules.get(".".join(parts[:k])), parts[k:]) for k in range(1, len(parts) + 1)]
    for found, path in [(module, path) for module in modules() for path in inside] + named:
        for part in path:
            found = getattr(found, part, None)
        if found is not None:
            return True
    return False


def resolve(app, env, node, content):
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    objects = env.domains["py"].objects
    last = target.split(".")[-1]
    matches = [name for name in objects if name == target or name.endswith("." + target)]
    if not matches:
        kinds = ("class", "function", "exception")
        matches = [name for name, entry in objects.items() if name.split(".")[-1] == last and entry.objtype in kinds]
    inside = [name for name in matches if node.get("py:class") and node["py:class"] in name]
    for found in (inside, matches):
        if len(found) == 1:
            builder = app.builder
            entry = objects[found[0]]
            link = nodes.reference("", "", content, internal=True)
            link["refuri"] = builder.get_relative_uri(node["refdoc"], entry.docname) + "#" + entry.node_id
            link["reftitle"] = found[0]
            return link
    return content if exists(target, (node.get("py:class") or "").split(".")[-1]) else None


def setup(app):
    app.connect("autodoc-process-docstring", read)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
