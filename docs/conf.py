"""Settings of the site: `make docs` builds it from the project's root, so that relative links hold."""

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for names_of_rooms
PROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]

project = PROJECT["name"]
author = PROJECT["authors"][0]["name"]
version = release = PROJECT["version"]
html_title = "ztf_sg"
REPOSITORY = PROJECT["urls"]["Repository"]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx-mathjax-offline",
    "names_of_rooms",
]
root_doc = "docs/index"
include_patterns = ["docs/**.md", "notebooks/*.ipynb", "CHANGELOG.md", "CONTRIBUTING.md"]

nb_execution_mode = "off"  # committed notebooks carry their outputs
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_dmath_double_inline = True  # notebooks have $$ within paragraphs
myst_heading_anchors = 3

autosummary_generate = False
autodoc_default_options = {
    "members": True,
    "member-order": "groupwise",
    # scikit-learn adds these to each estimator; they have no docstring of ours.
    "exclude-members": "set_fit_request, set_predict_request, set_predict_proba_request, set_score_request, "
    "set_transform_request, set_inverse_transform_request",
}
napoleon_google_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "params_style")]
add_module_names = False
toc_object_entries_show_parents = "hide"  # the sidebar is narrow
default_role = "code"
highlight_language = "none"

html_theme = "sphinx_book_theme"
html_theme_options = {
    "home_page_in_toc": True,
    "navbar_persistent": [],  # the search box in the sidebar is enough
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": False,
    "repository_url": REPOSITORY,
    "use_repository_button": "OWNER" not in REPOSITORY,  # while no account is named, it would lead nowhere
}
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_extra_path = ["redirect"]  # the site's root leads to docs/index.html
html_copy_source = False
