"""Configuration of the documentation: MyST pages whose cells are executed in the build."""

from __future__ import annotations

import re
from importlib.metadata import version as installed_version
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx import addnodes
from sphinx.util.math import get_node_equation_number

project = "sparselmm"
author = "the sparselmm developers"
copyright = "the sparselmm developers"
release = installed_version("sparselmm")
version = release

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "jupyter_execute", "**.ipynb_checkpoints"]
root_doc = "index"

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_execution_in_temp = True
nb_execution_show_tb = True
nb_merge_streams = True
nb_output_stderr = "remove"  # progress lines and warnings with paths of the build; pages print what they discuss

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_preprocess_types = True

html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"sparselmm {release}"
html_copy_source = False
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["extra.css"]
default_role = "py:obj"  # `name` in a docstring: a link where the page documents it, code elsewhere

# Between a number and its unit, and between mathematics and its punctuation, no line may break.
UNIT = re.compile(r"(?<=\d) (?=(?:%|s|ms|GB)(?!\w))")
OPENING, CLOSING = re.compile(r"[(\[]+$"), re.compile(r"^[,.;:!?)\]]+")
JOINT = re.compile(r"^([\w*]+(?:, [\w*]+)+)( : .*)?$")
TUPLE = re.compile(r"\([^()]*\)")


def mathml(tex: str, as_block: bool = False) -> str:
    """Return TeX as MathML, with what docutils' translation leaves to be desired.

    It reads \\tfrac12 as a fraction of 12, puts the index of a letter with a hat under the letter and stretches bars.
    Browsers put no space between a function and its neighbours but some around bars and slashes.
    """
    tex = re.sub(r"(\\[td]?frac)(\d)(\d)", r"\1{\2}{\3}", tex).replace(r"\dots", r"\ldots")
    found = tex2mathml(tex, as_block=as_block)
    hat = r"<munderover>\s*(<mi>\w</mi>)((?:(?!</?munderover>).)*?)(<mo stretchy=\"false\">[ˆ~]</mo>)\s*</munderover>"
    found = re.sub(hat, r'<msub><mover accent="true">\1\3</mover>\2</msub>', found, flags=re.DOTALL)
    bar = r'<mo(?: stretchy="false"| class="mathopen")?>([|/‖])</mo>'
    found = re.sub(bar, r'<mo stretchy="false" lspace="0" rspace="0">\1</mo>', found)
    space = '<mspace width="0.17em"></mspace>'
    found = re.sub(r"(</m[in]>)(\s*<mi>\w+</mi>\s*<mo>&ApplyFunction;</mo>)", rf"\1{space}\2", found)
    return re.sub(r"(<mo>&ApplyFunction;</mo>)(?!\s*<mo[^>]*>[(\[])", rf"\1{space}", found)


def visit_math(self: Any, node: nodes.math) -> None:
    """Write inline mathematics as MathML, which browsers show without a script or a network."""
    before, after = node.get("before", ""), node.get("after", "")
    text = f"{before}{mathml(node.astext())}{after}"
    self.body.append(f'<span class="whole">{text}</span>' if before or after else text)
    raise nodes.SkipNode


def visit_displaymath(self: Any, node: nodes.math_block) -> None:
    """Write a displayed equation as MathML, with its number."""
    self.body.append(self.starttag(node, "div", CLASS="math notranslate nohighlight"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(mathml(node.astext(), as_block=True))
    self.body.append("</div>\n")
    raise nodes.SkipNode


def keep_together(app: Any, doctree: nodes.document, docname: str) -> None:
    """Keep numbers with their units, and give inline mathematics the brackets and stops that touch it."""
    for text in list(doctree.findall(nodes.Text)):
        if not isinstance(text.parent, nodes.literal | nodes.literal_block | nodes.math | nodes.math_block | nodes.raw):
            text.parent.replace(text, nodes.Text(UNIT.sub("\N{NO-BREAK SPACE}", text.astext())))
    for math in doctree.findall(nodes.math):
        i = math.parent.index(math)
        for key, j, pattern in (("before", i - 1, OPENING), ("after", i + 1, CLOSING)):
            beside = math.parent[j] if 0 <= j < len(math.parent) else None
            if isinstance(beside, nodes.Text) and (found := pattern.search(beside.astext())):
                math[key] = found.group()
                math.parent[j] = nodes.Text(pattern.sub("", beside.astext()))
    for name in [*doctree.findall(addnodes.literal_strong), *doctree.findall(nodes.strong)]:
        if re.fullmatch(r"[\w*]+(/[\w*]+)+", name.astext()):
            name.children = [nodes.Text(name.astext().replace("/", ", "))]


def prepare_docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep names that share a description in one entry, and the shape of an array in one piece.

    The slash becomes a comma in `keep_together`. Of several exceptions each gets the description.
    """
    section, made = "", []
    for line, below in zip(lines, [*lines[1:], ""]):
        section = line if below and set(below) == {"-"} else section
        names, colon, kind = line.partition(" : ")
        if JOINT.match(line) and below.startswith("    ") and section == "Raises":
            made += [part for name in names.split(", ")[:-1] for part in (name, below)]
            names = names.split(", ")[-1]
        elif JOINT.match(line) and below.startswith("    "):
            names = names.replace(", ", "/")
        if colon:
            kind = TUPLE.sub(lambda m: m.group().replace(", ", ",\N{WORD JOINER} "), kind)
        elif line.startswith("(") and "array" in line:
            names = TUPLE.sub(lambda m: m.group().replace(", ", ",\N{WORD JOINER} "), names)
        made.append(names + colon + kind)
    lines[:] = made


def mend_property(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Put the sentence of a property together again: napoleon takes what stands before a colon for a type."""
    kinds = [i for i, line in enumerate(lines) if line.startswith(":type: ")]
    if what == "property" and kinds:
        lines[0] = f"{lines.pop(kinds[0]).removeprefix(':type: ')}: {lines[0]}"


def setup(app: Any) -> None:
    """Register the renderer of mathematics and the corrections."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displaymath, None))
    app.connect("doctree-resolved", keep_together)
    app.connect("autodoc-process-docstring", prepare_docstring, priority=400)
    app.connect("autodoc-process-docstring", mend_property, priority=600)
