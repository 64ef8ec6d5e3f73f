"""How Sphinx builds the documentation: ``python3 make.py docs``. Nothing is fetched."""

from __future__ import annotations

from importlib.metadata import version as installed

project = "featpipe"
author = "The featpipe developers"
version = release = installed("featpipe")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!featpipe\.).*")]  # types in words: "(n, y, x) float32 array"
suppress_warnings = ["config.cache"]

myst_heading_anchors = 4
myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say more: shapes and units
napoleon_google_docstring = False
napoleon_use_param = False  # types are words: the n of "(n, y, x) array" is no link to `Stack.n`
napoleon_use_rtype = False
toc_object_entries_show_parents = "hide"
napoleon_use_ivar = True

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "featpipe"
html_static_path = ["_static"]
html_css_files = ["featpipe.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_copyright = False
