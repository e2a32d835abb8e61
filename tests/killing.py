"Kill a process and everything it started (torchrun puts its workers into sessions of their own)."
import os, signal
from pathlib import Path

def descendants(pid):
    "All processes below `pid`, from /proc"
    parent = {}
    for p in Path('/proc').glob('[0-9]*'):
        try: parent[int(p.name)] = int((p/'stat').read_text().rsplit(')', 1)[1].split()[1])
        except (OSError, IndexError): pass
    out = [pid]
    for q in out: out += [c for c,up in parent.items() if up == q]
    return out

def kill_all(pid):
    for p in descendants(pid):
        try: os.kill(p, signal.SIGKILL)
        except ProcessLookupError: pass
