"""How `make docs` makes the site: Sphinx with MyST over the pages as they lie in the repository.

The source is the root of the repository, so that a relative link between pages, to the measurements and to the
examples is the same here and where the repository is read, and each is checked while the site is built, without a
network. Sphinx, because docstrings speak its roles, as those of PyTorch and PyG do.
"""

from __future__ import annotations

import html
import inspect
import json
import pkgutil
import re
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx
from sphinx.ext.napoleon.docstring import GoogleDocstring
from sphinx.util import inspect as sphinx_inspect
from sphinx.util import logging

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

import pyg_kgrec  # noqa: E402

logger = logging.getLogger(__name__)

project = "pyg_kgrec"
author = "the authors of pyg_kgrec"
copyright = (ROOT / "LICENSE").read_text().partition("Copyright (c) ")[2].splitlines()[0]
release = version = pyg_kgrec.__version__

extensions = [
    "myst_nb",  # brings MyST for the other pages
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "benchmarks/README.md",
    "benchmarks/serving/README.md",
    "benchmarks/results/*.md",
    "docs/**",
    "examples/notebooks/*.ipynb",
]
exclude_patterns = [
    ".*",
    "out",
    "build",
    "dist",
    "pyg_kgrec",
    "tests",
    "**/.ipynb_checkpoints",
    "lightning_logs",
    "docs/_*",
]
nitpicky = True
highlight_language = "none"  # a block that names no language is shown as it is

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

nb_execution_mode = "off"  # `make notebooks` has executed them: see `executed`
nb_merge_streams = True
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # it would come from another host

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autosummary_generate = False  # a page per module, written by hand: nothing is made beside the sources
autodoc_type_aliases = {
    name: name
    for name in (
        "ArrayLike",
        "Axes",
        "Grid",
        "ModelLike",
        "NDArray",
        "Nodes",
        "RawId",
        "RawIds",
        "Split",
        "Store",
    )
}
napoleon_use_ivar = True
napoleon_numpy_docstring = False
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True

html_theme = "furo"
html_math_renderer = "mathml"  # browsers draw it by themselves: no script, and nothing from another host
html_title = f"pyg_kgrec {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_theme_options = {"navigation_with_keys": True}
html_show_sphinx = False
html_copy_source = False
copybutton_exclude = ".linenos, .gp, .go"


# What docstrings and signatures name of other libraries, and where that stands. An inventory of intersphinx would
# have to be fetched, and no network is needed here; a name that this table lacks is an error of the build.
EXTERNAL: dict[str, dict[str, str]] = tomllib.loads((DOCS / "external.toml").read_text())
PUBLIC = (
    "pyg_kgrec",
    "pyg_kgrec.comparison",
    "pyg_kgrec.data",
    "pyg_kgrec.datasets",
    "pyg_kgrec.calibration",
    "pyg_kgrec.evaluation",
    "pyg_kgrec.explain",
    "pyg_kgrec.exporting",
    "pyg_kgrec.faithfulness",
    "pyg_kgrec.kge",
    "pyg_kgrec.models",
    "pyg_kgrec.nn",
    "pyg_kgrec.ops",
    "pyg_kgrec.presets",
    "pyg_kgrec.refitting",
    "pyg_kgrec.serving",
    "pyg_kgrec.testing",
    "pyg_kgrec.training",
    "pyg_kgrec.transforms",
)


def public_names(module: str) -> list[str]:
    """Names that a public module offers: its `__all__`, or the public functions and classes of this package."""
    found = import_module(module)
    if hasattr(found, "__all__"):
        return list(found.__all__)
    names = [name for name in vars(found) if not name.startswith("_")]
    own = [name for name in names if _is_own(getattr(found, name), module)]
    return sorted(own)


def _is_own(value: Any, module: str) -> bool:
    if not (inspect.isfunction(value) or inspect.isclass(value)):
        return False
    return value.__module__ == module or (module == "pyg_kgrec.ops" and value.__module__.startswith(module))


def _existing() -> set[str]:
    """Every name that a module of the package, or a class in one, has: what a docstring may speak of."""
    names = set()
    for found in pkgutil.walk_packages(pyg_kgrec.__path__, "pyg_kgrec."):
        if found.name.endswith("__main__"):  # importing it runs it
            continue
        try:
            module = import_module(found.name)
        except ImportError:  # needs an extra
            continue
        names.add(found.name)
        for name, value in vars(module).items():
            if (inspect.isclass(value) or inspect.isfunction(value)) and "pyg_kgrec" not in value.__module__:
                continue  # of another library: the table has its page
            names.add(name)
            if inspect.isclass(value) and value.__module__.startswith("pyg_kgrec"):
                names.update(f"{name}.{member}" for member in dir(value))
                names.update(dir(value))
                names.update(f"{name}.{member}" for member in inspect.get_annotations(value))
                names.update(inspect.get_annotations(value))
    return names


def _external(target: str) -> str | None:
    """Address of an object of another library, by its full name or by the short one that signatures have."""
    for site in EXTERNAL.values():
        if target in site:
            return site["base"] + site[target]
    return None


def resolve(app: Sphinx, env: Any, node: Any, content: nodes.TextElement) -> nodes.Node | None:
    """Finds what Sphinx does not: other libraries' objects, and ours by another name than the documented one."""
    if node.get("refdomain") != "py":
        return None
    target: str = node["reftarget"].removesuffix("()").partition("[")[0]
    address = _external(target)
    if address is not None:
        if address:
            return nodes.reference("", "", content, internal=False, refuri=address)
        return content
    parts = target.split(".")
    documented = env.get_domain("py").objects
    for start in range(len(parts)):
        tail = ".".join(parts[start:])
        matches = [name for name in documented if name == tail or name.endswith("." + tail)]
        if len(matches) > 1:
            # A bare name, as in :meth:`encode`: of the class whose docstring has it, or else of a module.
            own = [name for name in matches if name.rpartition(".")[0].endswith(str(node.get("py:class")))]
            matches = own or [name for name in matches if name.rpartition(".")[0] in PUBLIC]
        if len(matches) == 1:
            entry = documented[matches[0]]
            address = app.builder.get_relative_uri(node["refdoc"], entry.docname) + "#" + entry.node_id
            return nodes.reference("", "", content, internal=True, refuri=address, reftitle=matches[0])
    if target in EXISTING or ".".join(parts[-2:]) in EXISTING or parts[-1] in EXISTING:
        return content  # it is there, and not public: shown without a link
    return None


EXISTING: set[str] = set()
ACCENTS = frozenset("ˆ˜¯‾^~→")
BARS = frozenset("|‖∥")
ElementTree.register_namespace("", "http://www.w3.org/1998/Math/MathML")


def _sentence(self: GoogleDocstring) -> tuple[str, list[str]]:
    """The same for the docstring of a property."""
    return "", self._dedent(self._consume_to_end())


def _returns(self: GoogleDocstring, preprocess_types: bool = False) -> list[tuple[str, str, list[str]]]:
    """What stands under `Returns:` is a sentence, with a colon perhaps: the types stand in the signature."""
    return [("", "", self._dedent(self._consume_to_next_section()))]


EXECUTED = ROOT / "out" / "notebooks"


def executed(app: Sphinx, docname: str, content: list[str]) -> None:
    """Shows a notebook with the outputs that `make notebooks` left, as long as they are those of its cells."""
    if not docname.startswith("examples/notebooks/"):
        return
    found = EXECUTED / f"{docname.rpartition('/')[2]}.ipynb"
    app.env.note_dependency(str(found), docname=docname)
    if not found.is_file():
        logger.info("%s is shown without outputs: make notebooks has not executed it", docname)
        return
    notebook = json.loads(found.read_text())
    if _sources(notebook) != _sources(json.loads(content[0])):
        logger.info("%s is shown without outputs: it has changed since it was executed", docname)
        return
    for cell in notebook["cells"]:
        streams = [one for one in cell.get("outputs", ()) if one["output_type"] == "stream"]
        for name in {one["name"] for one in streams}:
            ours = [one for one in streams if one["name"] == name]
            ours[0]["text"] = overwritten("".join("".join(one["text"]) for one in ours))
            cell["outputs"] = [one for one in cell["outputs"] if not any(one is gone for gone in ours[1:])]
    content[0] = json.dumps(notebook)


def _sources(notebook: dict[str, Any]) -> list[str]:
    return ["".join(cell["source"]) for cell in notebook["cells"]]


def overwritten(text: str) -> str:
    """What a terminal shows in the end: a progress bar writes over itself, and over the last with blanks."""
    lines = []
    for line in text.split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return "\n".join(lines)


def check_reference(app: Sphinx, env: Any) -> None:
    """A public name without its place in the reference is an error of the build."""
    documented = {name.rpartition(".")[2] for name in env.get_domain("py").objects}
    for module in PUBLIC:
        for name in public_names(module):
            if name not in documented:
                logger.warning("%s.%s is public and stands on no page of the reference", module, name)


def open_at_root(app: Sphinx, exception: Exception | None) -> None:
    """The site opens at its folder, too: pages lie in `docs/`, as in the repository."""
    if exception is None and app.builder.name == "html":
        target = "docs/index.html"
        page = (
            '<!doctype html>\n<meta charset="utf-8">\n<title>pyg_kgrec</title>\n'
            f'<meta http-equiv="refresh" content="0; url={target}">\n<a href="{target}">pyg_kgrec</a>\n'
        )
        (Path(app.outdir) / "index.html").write_text(page)


LITERAL = re.compile(r'<code class="[^"]*\bliteral\b.*?</code>', re.DOTALL)
SHORT = re.compile(r'(?<=<span class="pre)(?=">[^<]{1,28}</span>)')
PARAMETERS = re.compile(r"<dl>\n((?:<dd>.*?</dd>\n)+)</dl>", re.DOTALL)


def mend(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Mends what Sphinx and the theme write: headings without a level, lists of definitions that define nothing.

    Words of code that a phone has room for are marked: they are not broken at their hyphens.
    """
    tree = context.get("furo_navigation_tree")
    if tree:
        context["furo_navigation_tree"] = tree.replace('role="heading"', 'role="heading" aria-level="2"')
    if "body" in context:  # a signature over several lines
        context["body"] = PARAMETERS.sub(
            lambda found: '<div class="parameters">\n{}</div>'.format(
                found[1].replace("<dd>", "<div>").replace("</dd>", "</div>")
            ),
            context["body"],
        )
        context["body"] = LITERAL.sub(lambda found: SHORT.sub(" short", found[0]), context["body"])


# A figure and its deviation, and a figure and its unit.
TOGETHER = re.compile(r"(?<=\d) (?=±)|(?<=±) (?=\d)|(?<=\d) (?=(?:ms|s|min|kB|MB|GB|KiB|MiB|GiB|%)(?!\w))")
DATE = re.compile(r"\d{4}-\d\d-\d\d")


def cells(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Keeps together in the cells of tables what is read as one: a figure with its deviation or unit, a date.

    A cell of words is not squeezed to a word per line by its neighbours: then the table is scrolled.
    """
    for table in doctree.findall(nodes.table):
        for row in table.findall(nodes.row):
            entries: list[Any] = row.children
            for entry in entries:
                for text in list(entry.findall(nodes.Text)):
                    if not isinstance(text.parent, nodes.literal):
                        text.parent.replace(text, nodes.Text(TOGETHER.sub("\xa0", text.astext())))
                if DATE.fullmatch(entry.astext().strip()):
                    entry["classes"].append("whole")
                if len(entry.astext()) > (16 if entry is entries[0] and len(entries) > 5 else 40):
                    entry["classes"].append("words")


def mathml(text: str, block: bool) -> str:
    """MathML of a formula. A bracket grows with what it holds, so that sizes given by hand are left out."""
    plain = text.replace(r"\Big", "").replace(r"\dots", r"\ldots")
    plain = re.sub(r"(_(?:\w|\{[^{}]*\}))'", r"\1^{\\prime}", plain)  # above its index, not behind it
    made: str = latex2mathml.tex2mathml(plain, as_block=block)
    # Names of characters that HTML has and XML has not: &nbsp; and the like.
    root = ElementTree.fromstring(re.sub(r"&(?!lt;|gt;|amp;)\w+;", lambda name: html.unescape(name[0]), made))
    for bar in root.findall(".//{*}mo"):
        if bar.text in BARS:  # of a norm or a size, close to what it holds
            bar.attrib |= {"lspace": "0", "rspace": "0", "stretchy": "false"}
    for outer in root.findall(".//{*}munderover"):
        base, index, accent = outer
        if accent.text in ACCENTS:  # the index of an accented letter stands beside it, not beneath
            outer.tag = outer.tag.replace("munderover", "msub")
            letter = ElementTree.Element(outer.tag.replace("msub", "mover"), {"accent": "true"})
            letter.extend([base, accent])
            outer[:] = [letter, index]
    return ElementTree.tostring(root, encoding="unicode")


def formula_parts(text: str) -> list[str]:
    r"""Parts of a formula that stand side by side, with `\qquad` between them."""
    parts, depth = [""], 0
    for piece in re.split(r"(\\qquad|\\[{}]|[{}])", text):
        depth += {"{": 1, "}": -1}.get(piece, 0)
        if piece == r"\qquad" and not depth:
            parts.append("")
        else:
            parts[-1] += piece
    return [part.strip() for part in parts if part.strip()]


def visit_math(translator: Any, node: nodes.Element) -> None:
    """Writes a formula within a line."""
    translator.body.append(mathml(node.astext(), block=False))
    raise nodes.SkipNode


def visit_displayed_math(translator: Any, node: nodes.Element) -> None:
    """Writes a formula by itself, its parts beneath each other where the page is narrow."""
    drawn = "".join(f"<div>{mathml(part, block=True)}</div>" for part in formula_parts(node.astext()))
    translator.body.append(f'<div class="math">{drawn}</div>')
    raise nodes.SkipNode


def class_signature(
    app: Sphinx, what: str, name: str, value: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """A model's signature is its constructor's: `Recommender.__new__` only keeps what that is called with.

    A default that a data class makes anew is no Python, and the rest of the line would not be read as such.
    """
    if what == "class" and issubclass(value, pyg_kgrec.Recommender):
        own = sphinx_inspect.signature(
            value.__init__, bound_method=True, type_aliases=app.config.autodoc_type_aliases
        )
        signature = sphinx_inspect.stringify_signature(
            own, show_return_annotation=False, unqualified_typehints=True
        )
    return signature and signature.replace("<factory>", "..."), returns


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    EXISTING.update(_existing())
    sphinx_inspect.TypeAliasForwardRef.__repr__ = lambda self: self.name  # type: ignore[method-assign]
    GoogleDocstring._consume_returns_section = _returns  # type: ignore[method-assign]
    GoogleDocstring._consume_inline_attribute = _sentence  # type: ignore[method-assign]
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displayed_math, None))
    app.connect("autodoc-process-signature", class_signature)
    app.connect("source-read", executed)
    app.connect("missing-reference", resolve)
    app.connect("env-check-consistency", check_reference)
    app.connect("doctree-resolved", cells)
    app.connect("html-page-context", mend, priority=900)  # after the theme has made its list of pages
    app.connect("build-finished", open_at_root)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
