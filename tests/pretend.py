"""A second device that isn't there: tensors that say they are on it, and compute on the CPU. An operation that mixes it
with the CPU raises, as a GPU would; what makes a GPU wait for the CPU, or the CPU for a GPU, is counted."""
from collections import Counter
from contextlib import contextmanager
import traceback
from unittest.mock import patch
import torch
from torch import library as operators
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = 'pretend'
aten = torch.ops.aten
# they need a number on the CPU before the next line can run
WAITS = {aten._local_scalar_dense.default: 'item', aten.nonzero.default: 'nonzero', aten.equal.default: 'equal',
         aten.masked_select.default: 'boolean index', aten._unique2.default: 'unique',
         aten.repeat_interleave.Tensor: 'repeat_interleave'}
INDEXED = aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default

class Told:
    "What was seen since `watched` began"
    def __init__(self, double=False):
        self.double = double            # may numbers have 64 bits?
        self.waits = Counter()          # kind → how often
        self.places = Counter()         # (kind, file:line of ours) → how often

_told = [Told()]

def _ours(): # the innermost line of the package, or of a test
    for frame in reversed(traceback.extract_stack()):
        if ('d2it_nb' in frame.filename or 'test_' in frame.filename) and frame.filename != __file__:
            return f'{frame.filename.rsplit("/", 1)[-1]}:{frame.lineno} {frame.name}'

def _waits(kind):
    _told[-1].waits[kind] += 1
    _told[-1].places[kind, _ours()] += 1

class Pretend(torch.Tensor):
    "On the pretend device; `raw` is where its numbers are"
    @staticmethod
    def __new__(cls, raw):
        _refuse_double(raw.dtype)
        made = torch.Tensor._make_wrapper_subclass(
            cls, raw.size(), strides=raw.stride(), storage_offset=raw.storage_offset(), dtype=raw.dtype,
            layout=raw.layout, device=torch.device(NAME, 0))
        made.raw = raw
        return made

    @classmethod
    def __torch_dispatch__(cls, op, types, args=(), kwargs=None):
        return _run(op, args, kwargs or {})

    def __repr__(self):
        return f'Pretend({self.raw})'

def raw(x):
    return x.raw if isinstance(x, Pretend) else x

def _refuse_double(dtype):
    if dtype == torch.float64 and not _told[-1].double:
        raise TypeError('float64 on the device: not every GPU has it')

def _there(device):
    return device is not None and torch.device(device).type == NAME

def _copied(source, to_there, non_blocking=False):
    "A copy between devices"
    if isinstance(source, Pretend) and not to_there:
        _waits('to the CPU')
    if to_there and not isinstance(source, Pretend):
        _waits('to the device, not waited for' if non_blocking else 'to the device')

def _moved(op, x, kwargs): # to another device, or another type of numbers
    kwargs = dict(kwargs)
    device = kwargs.pop('device', None)
    there = isinstance(x, Pretend) if device is None else _there(device)
    _copied(x, there, kwargs.get('non_blocking', False))
    found = op(raw(x), **kwargs)
    return Pretend(found) if there else found

def _run(op, args, kwargs):
    if op is aten._to_copy.default:
        return _moved(op, args[0], kwargs)
    if op is aten.copy_.default:
        _copied(args[1], isinstance(args[0], Pretend), *args[2:])
        raw(args[0]).copy_(raw(args[1]))
        return args[0]
    tensors = []
    tree_map(lambda x: tensors.append(x) if isinstance(x, torch.Tensor) else None, (args, kwargs))
    here = [x for x in tensors if isinstance(x, Pretend)]
    indices = args[1] if op in INDEXED else ()
    for x in tensors:
        # numbers without dimensions may be anywhere, and so may indices: CUDA copies them, and waits
        if here and x.dim() and not isinstance(x, Pretend):
            if any(x is index for index in indices):
                _waits('index from the CPU')
            else:
                raise RuntimeError(f'{op} mixes devices: {tuple(x.shape)} is on the CPU')
    if op in WAITS and here:
        _waits(WAITS[op])
    if here and any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in indices):
        _waits('boolean index')
    device = kwargs.get('device')
    generator = kwargs.get('generator')
    there = bool(here) if device is None else _there(device)
    if generator is not None and there:
        raise RuntimeError(f'{op}: the generator is on the CPU, the tensor is not')
    if device is not None:
        kwargs = kwargs | dict(device='cpu')
    args_,kwargs_ = tree_map(raw, (args, kwargs))
    out = op(*args_, **kwargs_)
    if not there:
        return out
    same = {id(x.raw): x for x in here}             # in place: the same tensor comes back
    return tree_map(lambda x: same.get(id(x)) if id(x) in same else
                              Pretend(x) if isinstance(x, torch.Tensor) else x, out)

# those never ask a device written in Python
_tensor,_as_tensor,_new_tensor,_tolist = torch.tensor, torch.as_tensor, torch.Tensor.new_tensor, torch.Tensor.tolist

def _made(x):
    if isinstance(x, Pretend):
        return x
    _copied(x, True)
    return Pretend(x)

def _elsewhere(make):
    def made(*args, **kwargs):
        if not _there(kwargs.get('device')):
            return make(*args, **kwargs)
        return _made(make(*args, **{name: value for name,value in kwargs.items() if name != 'device'}))
    return made

def _like(x, data, *, dtype=None, **kwargs):
    if isinstance(x, Pretend):
        return _made(_tensor(data, dtype=dtype or x.dtype))
    return _new_tensor(x, data, dtype=dtype, **kwargs)

def _listed(x):
    if not isinstance(x, Pretend):
        return _tolist(x)
    _waits('tolist')
    return _tolist(x.raw)

@contextmanager
def watched(double:bool=False # may numbers there have 64 bits? Apple's GPUs have none, CUDA's do
           ):
    "The device can be used; yields what is `Told` meanwhile"
    _told.append(Told(double))
    with (patch.object(torch, 'tensor', _elsewhere(_tensor)), patch.object(torch, 'as_tensor', _elsewhere(_as_tensor)),
          patch.object(torch.Tensor, 'new_tensor', _like), patch.object(torch.Tensor, 'tolist', _listed)):
        try:
            yield _told[-1]
        finally:
            _told.pop()

class _Module(_DummyBackendModule):
    "torch.pretend"
    def get_amp_supported_dtype(self):
        return [torch.bfloat16, torch.float16]

_setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
_every_operator = operators.Library('_', 'IMPL')
_every_operator.fallback(lambda op, *args, **kwargs: _run(op, args, kwargs), 'PrivateUse1')
