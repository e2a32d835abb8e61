import os, sys, tempfile
from pathlib import Path
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent/'tools')]

# every Python that is started from here refuses the network, and so does this one
os.environ['PYTHONPATH'] = os.pathsep.join([str(HERE/'offline'), *filter(None, [os.environ.get('PYTHONPATH')])])
os.environ.setdefault('OFFLINE_LOG', tempfile.mktemp(suffix='.log'))
exec((HERE/'offline'/'sitecustomize.py').read_text(), dict(__name__='offline'))

def pytest_configure(config): config.addinivalue_line('markers', 'stress: long; runs where STRESS=1')
def pytest_collection_modifyitems(items):
    if not os.environ.get('STRESS'): items[:] = [i for i in items if not i.get_closest_marker('stress')]
def pytest_sessionfinish(session):
    if (log := Path(os.environ['OFFLINE_LOG'])).is_file():
        print(f'\nCONNECTIONS WERE TRIED:\n{log.read_text()}')
        session.exitstatus = 1
