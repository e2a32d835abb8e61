"Where shared memory or file handles are short: training goes on, or says what is missing."
import ctypes, os, resource
from functools import partial
import pytest
from common import Fork, finished, losses, photographs
from faults import arguments

def small_shm(size):
    "This process, in a mount namespace of its own, has so much shared memory"
    libc = ctypes.CDLL(None, use_errno=True)
    def done(rc):
        if rc:
            raise OSError(ctypes.get_errno(), 'no namespace of our own')
    done(libc.unshare(0x20000))                                    # CLONE_NEWNS
    done(libc.mount(b'none', b'/', None, 1 << 18 | 1 << 14, None))            # private, and all below
    done(libc.mount(b'tmpfs', b'/dev/shm', b'tmpfs', 0, f'size={size}'.encode()))

def may_mount():
    probe = Fork(os.getpid, before=partial(small_shm, '1m'))
    probe.wait(60)
    return probe.returncode == 0

def few_files():
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))

STAGE1 = '--held', 0, '--w_gan', 0, '--calib', 8, '--steps', 2

# 8 pictures of 32 pixels are 98 kB; with the long ones, batches of 1.5 MB
@pytest.mark.parametrize('size, more', [('64k', ()), *(pytest.param(s, ('--size', 64, '--batch', 32), marks=pytest.mark.stress) for s in ('1m', '64m'))])
def test_little_shared_memory(tmp_path, size, more):
    "Batches that do not fit, read by two processes: as without them"
    if not may_mount():
        pytest.skip('no mount namespace here')
    flags = *STAGE1, *more
    for name, how in dict(alone={}, readers=dict(before=partial(small_shm, size))).items():
        r = finished('d2it_nb.train', *arguments('dvae', tmp_path/name, *flags, '--workers', 2*(name == 'readers')), **how)
        assert r.returncode == 0, r.stderr[-3000:]
    assert losses(tmp_path/'readers') == losses(tmp_path/'alone')

def test_few_file_handles(tmp_path):
    "It trains, or names what is short; and no picture is blamed for it"
    photographs(tmp_path/'p', 24, 32)
    r = finished('d2it_nb.train', *arguments('dvae', tmp_path/'run', '--data', tmp_path/'p', *STAGE1, '--workers', 2), before=few_files)
    assert 'quarantine' not in r.stderr and not (tmp_path/'run'/'quarantine.jsonl').is_file()
    if r.returncode:
        assert r.returncode == 2 and 'Too many open files' in r.stderr and 'Traceback' not in r.stderr, r.stderr[-3000:]
