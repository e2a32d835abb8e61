"Sphinx's settings for the site that `python tools/docs/build.py` builds"
project, author, copyright = 'd2it_nb', 'd2it_nb contributors', '2026, d2it_nb contributors'
extensions = ['myst_nb']
nb_execution_mode = 'off'                       # notebooks are shown as they were run and committed
nb_merge_streams = True
nb_code_prompt_show, nb_code_prompt_hide = 'Imports', 'Imports'
myst_enable_extensions, myst_heading_anchors = ['dollarmath'], 3
suppress_warnings = ['mystnb.unknown_mime_type', 'myst.header']
html_theme, html_title, html_show_sphinx, html_copy_source, html_show_sourcelink = (
    'furo', 'd2it_nb', False, False, False)
html_static_path, html_css_files = ['static'], ['site.css']
html_theme_options = dict(navigation_with_keys=True)
pygments_style, pygments_dark_style = 'friendly', 'monokai'
linkcheck_timeout, linkcheck_retries = 20, 2
