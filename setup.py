"All settings live in settings.ini; this file only hands them to setuptools."
from configparser import ConfigParser
from pathlib import Path
import shlex, setuptools

here = Path(__file__).parent
config = ConfigParser(delimiters=['='])
config.read(here/'settings.ini', encoding='utf-8')
cfg = config['DEFAULT']
lib = cfg['lib_path']
readme = here/'README.md'

setuptools.setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'],
    author=cfg['author'], author_email=cfg['author_email'], url=cfg['git_url'],
    license='Apache-2.0',
    packages=[*setuptools.find_packages(include=[lib, f'{lib}.*']), f'{lib}._assets'],
    package_dir={f'{lib}._assets': 'data'},      # data/ is installed as the package d2it_nb._assets
    package_data={lib: ['*.js', '*.css'], f'{lib}._assets': ['*', '**/*']},
    install_requires=shlex.split(cfg.get('requirements', '')),
    extras_require={'dev': shlex.split(cfg.get('dev_requirements', '')), 'page': ['voila>=0.5']},
    python_requires='>=' + cfg['min_python'],
    long_description=readme.read_text(encoding='utf-8') if readme.exists() else '',
    long_description_content_type='text/markdown',
    zip_safe=False,
    entry_points={'console_scripts': cfg.get('console_scripts', '').split(), 'nbdev': [f'{lib}={lib}._modidx:d']},
)
