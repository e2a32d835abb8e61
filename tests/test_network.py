("Nothing opens a connection to another machine. "
 "All tests run under this guard; here it is shown to work, and what a user does first runs under it.")
import os, socket, subprocess, sys
from pathlib import Path
import pytest

def child(code, log):
    return subprocess.run([sys.executable, '-c', code],
                          env=os.environ | dict(OFFLINE_LOG=str(log), OMP_NUM_THREADS='1'), capture_output=True,
                          text=True)

def test_the_guard_sees_what_is_tried(tmp_path, monkeypatch):
    for i,code in enumerate(
            ['import urllib.request as u; u.urlopen("http://example.org")',
             'import socket; socket.create_connection(("93.184.216.34", 80), 1)',
             'import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("8.8.8.8", 53))']):
        r = child(code, log := tmp_path/str(i))
        assert r.returncode and 'no connections in tests' in r.stderr and log.read_text(), r.stderr
    monkeypatch.setenv('OFFLINE_LOG', str(tmp_path/'own'))
    with pytest.raises(OSError, match='no connections'):
        socket.create_connection(('example.org', 80))
    assert 'example.org' in (tmp_path/'own').read_text()

def test_importing_everything_and_drawing_a_picture(tmp_path):
    root = Path(__file__).parent.parent
    files = [p.relative_to(root) for p in sorted((root/'d2it_nb').rglob('[a-z]*.py'))]
    modules = ', '.join('.'.join(p.with_suffix('').parts) for p in files)
    r = child(f'import {modules}\nfrom d2it_nb.extractors import extractor, lpips\nextractor(), lpips()\n'
              'd2it_nb.pipeline.D2iTPipeline.load().generate("roses", steps=2)', tmp_path/'log')
    assert r.returncode == 0, r.stderr[-2000:]
    assert not (tmp_path/'log').exists()
