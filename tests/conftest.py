"No network, stress tests left out, the longest first; and what each costs, in seconds of a core."
import json, multiprocessing.forkserver, os, sys, tempfile
from collections import Counter
from pathlib import Path
import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent/'tools')]

# every Python that is started from here refuses the network, and so does this one
os.environ['PYTHONPATH'] = os.pathsep.join([str(HERE/'offline'), *filter(None, [os.environ.get('PYTHONPATH')])])
os.environ.setdefault('OFFLINE_LOG', tempfile.mktemp(suffix='.log'))
os.environ.setdefault('MPLBACKEND', 'Agg')
exec((HERE/'offline'/'sitecustomize.py').read_text(), dict(__name__='offline'))

def pytest_configure(config):
    config.addinivalue_line('markers', 'stress: long; runs where STRESS=1')

def group_of(nodeid):
    "What one worker runs in one go: a file, whose tests share their fixtures; a notebook; a check of the repository"
    name = nodeid.split('::')[0].split('/')[-1].removesuffix('.py')
    if name == 'test_notebooks':
        return nodeid.split('[')[1].rstrip(']')
    return nodeid.split('::')[1] if name == 'test_repository' else name

@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling
    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group_of(nodeid)
    return ByGroup(config, log)

def pytest_collection_modifyitems(items):
    if not os.environ.get('STRESS'):
        items[:] = [i for i in items if not i.get_closest_marker('stress')]
    seconds = json.loads((HERE/'seconds.json').read_text())['groups']
    # so that both cores end together; what nobody has measured yet comes first
    items.sort(key=lambda i: (-seconds.get(group_of(i.nodeid), 1e9), group_of(i.nodeid)))

def cpu_seconds():
    "Of this process, of those that it waited for, and of its server of forks (see `common`)"
    user, system, below, below_system, _ = os.times()
    total = user + system + below + below_system
    if pid := getattr(multiprocessing.forkserver._forkserver, '_forkserver_pid', None):
        fields = Path(f'/proc/{pid}/stat')
        if fields.is_file():
            total += sum(map(int, fields.read_text().rsplit(')', 1)[1].split()[11:15]))/os.sysconf('SC_CLK_TCK')
    return total

begun = {}
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    begun[item.nodeid] = cpu_seconds()

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == 'teardown':
        report.user_properties.append(('cpu', cpu_seconds() - begun.pop(item.nodeid, cpu_seconds())))
        report.user_properties.append(('group', group_of(item.nodeid)))
    return report

tests = Counter()
groups = Counter()
outcomes = Counter()
def pytest_runtest_logreport(report):
    if report.when == 'call' or report.failed:
        outcomes[report.outcome] += 1
    if report.when == 'teardown':
        told = dict(report.user_properties)
        tests[report.nodeid.split('/')[-1].split('@')[0]] += told['cpu']
        groups[told['group']] += told['cpu']

def pytest_sessionfinish(session):
    if (log := Path(os.environ['OFFLINE_LOG'])).is_file():
        print(f'\nCONNECTIONS WERE TRIED:\n{log.read_text()}')
        session.exitstatus = 1
    if where := os.environ.get('CPU_SECONDS'):
        if not hasattr(session.config, 'workerinput'):
            Path(where).write_text(json.dumps(dict(tests=tests.most_common(), groups=groups.most_common(),
                                                   passed=outcomes['passed'], failed=outcomes['failed'])))
