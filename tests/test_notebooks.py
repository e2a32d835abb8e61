"Every notebook from top to bottom, as `nbdev_test` runs it: each in a process of its own, without a network."
import os, sys
from pathlib import Path
import pytest
from nbdev.config import get_config
from nbdev.test import test_nb as run_notebook
from common import Fork, env

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(p.stem for p in (ROOT/'nbs').glob('*.ipynb'))

def step_through(notebook):
    os.chdir(ROOT/'nbs')
    passed, _ = run_notebook(Path(notebook), skip_flags=get_config().tst_flags.split(), basepath=ROOT)
    sys.exit(not passed)

@pytest.mark.parametrize('name', NOTEBOOKS)
def test_notebook(name):
    p = Fork(step_through, ROOT/'nbs'/f'{name}.ipynb', env=env())
    try:
        p.wait(900)
    finally:
        p.kill()
    assert p.returncode == 0, p.said()[1][-4000:]
