p='/tmp/w/h/gw/80_demo.cur'
s=open(p).read()
def rep(a,b,n=1):
    global s
    assert s.count(a)==n,(s.count(a),a)
    s=s.replace(a,b)
rep('''    middle = g[..., 1:-1, 1:-1]
    return (4*middle - above - below - left - right).abs()[:, 0]
''','''    centre = g[..., 1:-1, 1:-1]
    return (4*centre - above - below - left - right).abs()[:, 0]
''')
rep('''    # one thread per process where nproc processes share the cores
    env = dict(dict(OMP_NUM_THREADS='1') if nproc > 1 else {}, **os.environ)
''','''    env = dict(os.environ)
    if nproc > 1:
        # processes share the cores: one thread each
        env.setdefault('OMP_NUM_THREADS', '1')
''')
rep('''        status,told = _wait(subprocess.Popen(command, env=env, process_group=0))
''','''        process = subprocess.Popen(command, env=env, process_group=0)
        status,told = _wait(process)
''')
rep('''    for name,grain in (('all coarse', 0), ('all fine', pipe.k - 1)):
        means[name] = detail(pipe.generate(y, torch.full(pipe.grid, grain), n=n).x).mean()
''','''    for name,grain in (('all coarse', 0), ('all fine', pipe.k - 1)):
        M = torch.full(pipe.grid, grain)
        means[name] = detail(pipe.generate(y, M, n=n).x).mean()
''')
rep('''    ds = not_seen(of, n, data, **how)
    return torch.stack([ds.image(i) for i in range(len(ds))]),ds
''','''    ds = not_seen(of, n, data, **how)
    x = torch.stack([ds.image(i) for i in range(len(ds))])
    return x,ds
''')
rep('''        title = f'{name}: {n_codes(M).float().mean():.0f} codes'
        rows[title] = net.decode(net.encode(x, M), M).clamp(-1, 1)
''','''        z = net.encode(x, M)
        codes = n_codes(M).float().mean()
        rows[f'{name}: {codes:.0f} codes'] = net.decode(z, M).clamp(-1, 1)
''')
rep('''    return film_strip(rows, n=len(y), titles=[pipe.classes[i] for i in y], size=size)
''','''    titles = [pipe.classes[i] for i in y]
    return film_strip(rows, n=len(y), titles=titles, size=size)
''')
rep('''    return film_strip(rows, n=9, titles=[f't = {step.t}' for step in film])
''','''    times = [f't = {step.t}' for step in film]
    return film_strip(rows, n=9, titles=times)
''')
rep('''    ways = {f'r={r:g}': by_entropy(pipe.cal, r, pipe.k) for r in (0., .5, 1.)}
    rows = scores(assess(pipe.dvae, not_seen(pipe, n, data), pipe.cal, ways))
''','''    ds = not_seen(pipe, n, data)
    ways = {f'r={r:g}': by_entropy(pipe.cal, r, pipe.k) for r in (0., .5, 1.)}
    rows = scores(assess(pipe.dvae, ds, pipe.cal, ways))
''')
rep('''        draw_first(run, data)[0].figure.savefig(run/'first.png', dpi=110)
        print(f'\\nFirst pictures, after {minutes():.1f} minutes: {run/"first.png"} shows '
''','''        picture = run/'first.png'
        draw_first(run, data)[0].figure.savefig(picture, dpi=110)
        print(f'\\nFirst pictures, after {minutes():.1f} minutes: {picture} shows '
''')
rep('''    return sum(flops(net, fine.long().view(1, 16, 16)).values())/2e9
''','''    M = fine.long().view(1, 16, 16)
    return sum(flops(net, M).values())/2e9
''')
rep('''    label = middle(pipe) if label is None else label
    M = torch.zeros(''','''    if label is None:
        label = middle(pipe)
    M = torch.zeros(''')
rep('''    label = middle(pipe) if label is None else label
    y = pipe''','''    if label is None:
        label = middle(pipe)
    y = pipe''')
rep('''    for row,column in brush(pipe.grid[0]) if cells is None else cells:
''','''    if cells is None:
        cells = brush(pipe.grid[0])
    for row,column in cells:
''')
rep('''    n = min(n, len(ds))
    return Part(ds, [i*len(ds)//n for i in range(n)], f'{n} of them')
''','''    n = min(n, len(ds))
    spread = [i*len(ds)//n for i in range(n)]
    return Part(ds, spread, f'{n} of them')
''')
rep('''    x = PhotoCrops(pipe.size).image(2) if x is None else x
    E''','''    if x is None:
        x = PhotoCrops(pipe.size).image(2)
    E''')
rep('''    return dict(reconstruction=reconstruction,
                detail={name: round(mean.item(), 4) for name,mean in means.items()})
''','''    rounded = {name: round(mean.item(), 4) for name,mean in means.items()}
    return dict(reconstruction=reconstruction, detail=rounded)
''')
rep("draw_first(run, n=4);","draw_first(run, n=1);")
open(p,'w').write(s)
