"Sphinx's settings for the site that `python tools/docs/build.py` builds"
project = 'd2it_nb'
author = 'd2it_nb contributors'
copyright = '2026, d2it_nb contributors'
extensions = ['myst_nb']
nb_execution_mode = 'off'                       # notebooks are shown as they were run and committed
nb_merge_streams = True
nb_code_prompt_show, nb_code_prompt_hide = 'Imports', 'Imports'
myst_enable_extensions, myst_heading_anchors = ['dollarmath'], 3
suppress_warnings = ['mystnb.unknown_mime_type', 'myst.header']
html_theme = 'furo'
html_title = 'd2it_nb'
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
html_static_path, html_css_files = ['static'], ['site.css']
html_theme_options = dict(navigation_with_keys=True)
pygments_style, pygments_dark_style = 'friendly', 'monokai'
linkcheck_timeout, linkcheck_retries = 20, 2
