"On the path of every Python that the tests start: a connection to anywhere but this machine is refused, and written down in $OFFLINE_LOG."
import os, socket, sys

HERE = {'', '127.0.0.1', '::1', 'localhost', '0.0.0.0', '::', socket.gethostname(), None}

def refuse(what):
    if log := os.environ.get('OFFLINE_LOG'):
        with open(log, 'a') as f: f.write(f'{what} by {" ".join(sys.argv[:3])}\n')
    raise OSError(f'no connections in tests: {what}')
def here(address): return not isinstance(address, tuple) or address[0] in HERE or str(address[0]).startswith('127.')

for name in ('connect', 'connect_ex', 'sendto'):
    def guarded(self, *a, plain=getattr(socket.socket, name), name=name): return plain(self, *a) if here(a[-1]) else refuse(f'{name} {a[-1]}')
    setattr(socket.socket, name, guarded)
def named(host, *a, plain=socket.getaddrinfo, **kw):
    if (host.decode() if isinstance(host, bytes) else host) not in HERE and not str(host).startswith('127.'): refuse(f'look-up of {host}')
    return plain(host, *a, **kw)
socket.getaddrinfo = named
