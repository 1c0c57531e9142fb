"""Configuration of the documentation: MyST pages whose cells are executed in the build."""

from __future__ import annotations

import re
from importlib.metadata import version as installed_version
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
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


def mathml(tex: str, as_block: bool = False) -> str:
    """Return TeX as MathML, with what docutils' translation leaves to be desired.

    It reads \\tfrac12 as a fraction of 12, and browsers put no space between a function and its
    argument but some around bars and slashes.
    """
    tex = re.sub(r"(\\[td]?frac)(\d)(\d)", r"\1{\2}{\3}", tex).replace(r"\dots", r"\ldots")
    found = tex2mathml(tex, as_block=as_block)
    found = re.sub(r'<mo stretchy="false">([|/])</mo>', r'<mo stretchy="false" lspace="0" rspace="0">\1</mo>', found)
    apart = r'\1<mspace width="0.17em"></mspace>'
    return re.sub(r"(<mo>&ApplyFunction;</mo>)(?!\s*<mo[^>]*>[(\[])", apart, found)


def visit_math(self: Any, node: nodes.math) -> None:
    """Write inline mathematics as MathML, which browsers show without a script or a network."""
    self.body.append(mathml(node.astext()))
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


def setup(app: Any) -> None:
    """Register the renderer of mathematics."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displaymath, None))
