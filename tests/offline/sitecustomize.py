"On the path of every Python that the tests start: a connection to anywhere but this machine is refused, and written down in $OFFLINE_LOG."
import os, socket, sys

HERE = {'', '127.0.0.1', '::1', 'localhost', '0.0.0.0', '::', socket.gethostname(), None}

def refuse(what):
    if log := os.environ.get('OFFLINE_LOG'):
        with open(log, 'a') as f:
            f.write(f'{what} by {" ".join(sys.argv[:3])}\n')
    raise OSError(f'no connections in tests: {what}')
def here(host):
    return (host.decode() if isinstance(host, bytes) else host) in HERE or str(host).startswith('127.')

def guard(name):
    plain = getattr(socket.socket, name)
    def guarded(self, *a):
        if isinstance(a[-1], tuple) and not here(a[-1][0]):
            refuse(f'{name} {a[-1]}')      # not a tuple: a socket of this machine
        return plain(self, *a)
    setattr(socket.socket, name, guarded)
for name in ('connect', 'connect_ex', 'sendto'):
    guard(name)

look_up = socket.getaddrinfo
def named(host, *a, **kw):
    if not here(host):
        refuse(f'look-up of {host}')
    return look_up(host, *a, **kw)
socket.getaddrinfo = named

if os.environ.get('COVERAGE_PROCESS_START'):
    import coverage
    coverage.process_startup()
