p='/tmp/w/h/gw/80_demo.cur'
s=open(p).read()
def rep(a,b,n=1):
    global s
    assert s.count(a)==n,(s.count(a),a)
    s=s.replace(a,b)
rep('''    g = torch.nn.functional.pad(x.mean(1, keepdim=True), (1, 1, 1, 1), mode='replicate')
''','''    grey = x.mean(1, keepdim=True)
    g = torch.nn.functional.pad(grey, (1, 1, 1, 1), mode='replicate')
''')
rep('''    show_images([overlay_grain(x, s.M[0], pipe.k), s.z[0,0]/2.5, s.x[0]],
                ['grain map: red is fine', codes, 'decoded'],
                axs=axs[2:])
''','''    pictures = [overlay_grain(x, s.M[0], pipe.k), s.z[0,0]/2.5, s.x[0]]
    show_images(pictures,
                ['grain map: red is fine', codes, 'decoded'],
                axs=axs[2:])
''')
rep('''            *((r, low)  for r in back)]

def draw_paint''','''            *((r, low)  for r in back)]
%%% code
test_eq(brush(4), [(1, 1), (1, 2), (2, 2), (2, 1)])
%%% code
#| export
def draw_paint''')
rep('''    return [[sys.executable, *launcher, '-m', 'd2it_nb.train', stage,
             '--preset', preset, *pictures, '--out', str(Path(run)/stage)]
            for stage in STAGES]
''','''    return [[sys.executable, *launcher, '-m', 'd2it_nb.train', stage,
             '--preset', preset,
             *pictures,
             '--out', str(Path(run)/stage)]
            for stage in STAGES]
''')
open(p,'w').write(s)
