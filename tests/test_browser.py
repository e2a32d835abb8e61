"""The editor in a real Chromium in a real JupyterLab: what a mouse, a keyboard and a restarted kernel do to it. SHOTS=FOLDER keeps screenshots."""
import json, os, secrets, shutil, signal, socket, subprocess, sys, time, urllib.request
from contextlib import contextmanager
from pathlib import Path
import pytest
ROOT = Path(__file__).parent.parent
from fuzz import CHROMIUM
if not CHROMIUM:
    pytest.skip('NO CHROMIUM HERE: the editor is not tested in a browser (Debian: apt-get install chromium)',
                allow_module_level=True)
from playwright.sync_api import sync_playwright

@contextmanager
def lab(d, *notebooks):
    "A JupyterLab of its own, with copies of these notebooks; yields its address"
    shutil.copytree(ROOT/'nbs'/'figures', d/'figures')
    for n in notebooks:
        shutil.copy(n, d)
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    token = secrets.token_hex(8)
    here = {k: str(d/f'.{k.lower()}')
            for k in ('JUPYTER_CONFIG_DIR', 'JUPYTER_DATA_DIR', 'JUPYTER_RUNTIME_DIR', 'IPYTHONDIR')}
    p = subprocess.Popen([sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', '--ip=127.0.0.1',
                          f'--port={port}', f'--IdentityProvider.token={token}', f'--ServerApp.root_dir={d}',
                          '--LabApp.news_url=null',
                          '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate',
                          '--LabApp.expose_app_in_browser=True', '--LabApp.extension_manager=readonly'],
                         env=os.environ | here | dict(HOME=str(d), OMP_NUM_THREADS='1', JUPYTER_PLATFORM_DIRS='0'),
                         stdout=open(d/'lab.log', 'w'), stderr=subprocess.STDOUT)
    try:
        end = time.time() + 90
        while True:
            try:
                urllib.request.urlopen(f'http://127.0.0.1:{port}/api/status?token={token}').read()
                break
            except OSError:
                assert p.poll() is None and time.time() < end, (d/'lab.log').read_text()
                time.sleep(.2)
        yield port, token
    finally:
        p.terminate()
        p.wait(20)

class Page:
    "A notebook, opened and run"
    def __init__(self, browser, port, token, name):
        self.page = pg = browser.new_page()
        self.errors,self.asked = [],set()
        self.port = port
        pg.on('pageerror', lambda e: self.errors.append(str(e)))
        pg.on('console', lambda m: self.errors.append(f'{m.text} {m.location}') if m.type == 'error' else None)
        pg.on('request', lambda r: self.asked.add(r.url))
        pg.on('websocket', lambda w: self.asked.add(w.url))
        pg.goto(f'http://127.0.0.1:{port}/lab/tree/{name}?token={token}&reset')
        pg.wait_for_selector('.jp-NotebookPanel .jp-Cell', timeout=60_000)
        pg.wait_for_function(
            "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status == 'idle'",
            timeout=90_000)
    def run_all(self):
        self.page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    def python(self, code):
        "Run it in the kernel; returns what it prints"
        return self.page.evaluate("""async code => { const k = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel; let out = '';
            const f = k.requestExecute({code}); f.onIOPub = m => { if (m.header.msg_type == 'stream') out += m.content.text; if (m.header.msg_type == 'error') out += 'ERROR ' + m.content.ename + ': ' + m.content.evalue; }; await f.done; return out; }""", code).strip()
    def canvas(self):
        cv = self.page.locator('.grain-top').nth(-2)             # over the left pane of the last editor
        cv.scroll_into_view_if_needed()
        return cv
    def at(self, r, c, n=8, box=None):
        b = box or self.canvas().bounding_box()
        return b['x'] + (c + .5)*b['width']/n, b['y'] + (r + .5)*b['height']/n
    def drag(self, *cells, n=8, hold=False):
        b = self.canvas().bounding_box()
        m = self.page.mouse
        m.move(*self.at(*cells[0], n, b))
        m.down()
        for c in cells[1:]:
            m.move(*self.at(*c, n, b))
        if not hold:
            m.up()
    def press(self, name):
        self.page.get_by_role('button', name=name, exact=True).last.click()
    def seen(self, name, side=64):
        "What a canvas shows at the middle of each of a picture's pixels, as text"
        return self.page.evaluate("""([name, side]) => {
            const c = [...document.querySelectorAll(name)].at(-1), cx = c.getContext('2d'), out = [];
            for (let i = 0; i < side; i++) for (let j = 0; j < side; j++)
                out.push(...[...cx.getImageData((j + .5)*c.width/side, (i + .5)*c.height/side, 1, 1).data].slice(0, 3));
            return out.join(' '); }""", [name, side])
    def until(self, code, seconds=30):
        end = time.time() + seconds
        while self.python(f'print({code})') != 'True':
            assert time.time() < end, f'{code}: {self.python(f"print({code.split(chr(61))[0]})")}'
            time.sleep(.1)
    def shot(self, name):
        if d := os.environ.get('SHOTS'):
            Path(d).mkdir(parents=True, exist_ok=True)
            self.page.locator('.jp-OutputArea-output',
                              has=self.page.locator('.grain-canvas')).last.screenshot(path=f'{d}/{name}.png')
    def clean(self):
        assert not self.errors, self.errors
        away = [u
                for u in self.asked
                if not u.startswith((f'http://127.0.0.1:{self.port}/', f'ws://127.0.0.1:{self.port}/', 'data:',
                                     'blob:', 'about:'))]
        assert not away, away

@pytest.fixture(scope='module')
def browser():
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox', '--disable-background-networking', '--disable-gpu'])
        yield b.new_context(viewport=dict(width=1500, height=1100))        # one, so that the lab's scripts are compiled once
        b.close()

def notebook(path, *cells):
    path.write_text(json.dumps(dict(
        nbformat=4, nbformat_minor=5,
        metadata=dict(kernelspec=dict(name='python3', display_name='Python 3', language='python')),
        cells=[dict(cell_type='code', id=f'c{i}', metadata={}, source=s, outputs=[], execution_count=None)
               for i,s in enumerate(cells)])))
    return path

@pytest.fixture(scope='module')
def served(tmp_path_factory):
    d = tmp_path_factory.mktemp('lab')
    src = d/'src'
    src.mkdir()
    (d/'run').mkdir()
    plain = notebook(src/'plain.ipynb',
                     'from d2it_nb.pipeline import *\nfrom d2it_nb.editor import *\npipe = D2iTPipeline.load()',
                     'ed = Editor(pipe, label=1, seed=3, steps=8); ed.view')
    big = notebook(
        src/'big.ipynb',
        'from d2it_nb.editor import *\n'
        'class Fake:\n'
        '    grid,k,classes = (32, 32),3,[]\n'
        '    def generate(self, *a, each, steps, **kw):\n'
        '        import time\n'
        '        for i in range(steps): time.sleep(.2); each(i)\n'
        '        raise RuntimeError("out of ink")',
        'ed = Editor(Fake(), steps=20, start=False); ed.view')
    with lab(d/'run', ROOT/'nbs'/'90_tour.ipynb', plain, big) as at:
        yield at

def with_a_picture(browser, served, notebook, editor):
    "All cells were run, and the editor of that name has drawn its first picture"
    p = Page(browser, *served, notebook)
    p.run_all()
    p.canvas().wait_for(timeout=60_000)
    p.until(f"'{editor}' in globals() and {editor}.sample is not None and not {editor}.worker.busy", 60)
    return p

def test_the_tour(browser, served):
    "All cells, by the lab's own Run All, without an error; then paint, redraw, undo with the mouse"
    p = with_a_picture(browser, served, '90_tour.ipynb', 'editor')
    p.until("'stepper' in globals()", 60)
    bad = p.page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.content.widgets"
        ".flatMap(c => c.model.type == 'code' ? c.model.outputs.toJSON() : [])"
        ".filter(o => o.output_type == 'error').map(o => o.evalue)")
    assert not bad, bad
    p.python('import torch; was = editor.sample; editor.all_coarse()')
    p.drag((2, 2), (2, 5), (5, 5), (5, 2))
    p.until('editor.map.tensor.sum().item() == 10')
    p.shot('tour')
    label = p.python("print(editor.buttons['redraw'].description)")
    p.press(label)
    p.until('editor.sample is not was and not editor.worker.busy')
    assert p.python(
        "from d2it_nb.grain import on_finest; "
        "R = on_finest(((editor.sample.M != was.M) | (editor.map.tensor == 1)).long()).bool().expand_as(was.z); "
        "print(torch.equal(editor.sample.z[~R], was.z[~R]), "
        "torch.equal(editor.sample.z[R], was.z[R]))") == 'True False'
    p.press('Undo')
    p.until('editor.sample is was')
    p.page.locator('.widget-play button').first.click()
    p.until('stepper.at.value >= 3')
    p.clean()
    p.page.close()

PICTURE = ("from d2it_nb.data import to_image; "
           "print(*to_image(ed.sample.x[0]).resize((64, 64)).tobytes())")

def all_can_be_reached(p, width, height):
    "Wide: without scrolling once the editor's cell is at the top; narrow: by scrolling down, never sideways"
    p.page.set_viewport_size(dict(width=width, height=height))
    time.sleep(.5)
    p.shot(f'at-{width}')
    cell = p.page.locator('.jp-OutputArea-output', has=p.page.locator('.grain-editor')).last
    box = cell.bounding_box()
    parts = cell.locator('button:visible, select:visible, input:visible, canvas:visible').all()
    assert len(parts) > 25
    for one in parts:
        b = one.bounding_box()
        if not b or one.get_attribute('type') in ('file', 'radio'):
            continue
        what = one.evaluate('e => e.outerHTML.slice(0, 200)')
        assert b['x'] >= box['x'] - 1 and b['x'] + b['width'] <= width, what
        assert width < 1000 or b['y'] - box['y'] + b['height'] < height - 190, what

def test_what_is_shown_is_the_picture(browser, served):
    "A first picture without a click; canvas and thumbnail show its pixels; buttons say what they can do"
    p = with_a_picture(browser, served, 'plain.ipynb', 'ed')
    pixels = p.python(PICTURE)
    p.page.wait_for_function('() => document.querySelectorAll(".grain-results canvas").length == 1')
    time.sleep(.5)
    assert p.seen('.grain-picture') == pixels and p.seen('.grain-results canvas') == pixels
    p.canvas().focus()
    p.page.keyboard.down('p')
    time.sleep(.3)
    assert p.seen('.grain-canvas') == pixels                      # without the map, the same at the left
    p.page.keyboard.up('p')
    def can(name):
        return p.page.get_by_role('button', name=name, exact=True).last.is_enabled()
    assert [can(n) for n in ('New picture', 'Redraw', 'Undo', 'Redo')] == [True] + [False]*3
    # these are there when there is something for them to do
    assert not any(p.page.get_by_role('button', name=n, exact=True).count() for n in ('Re-encode', 'Stop'))
    p.drag((0, 0), (0, 3))
    p.until('len(ed.canvas.marked) == 4')
    assert can('Redraw 4 cells')
    p.press('Keep')
    p.press('Redraw 4 cells')
    p.until('len(ed.session.results) == 2 and not ed.worker.busy')
    p.press('Keep')
    p.page.wait_for_function('() => document.querySelectorAll(".grain-pinned canvas").length == 2')
    p.page.get_by_label('compare').last.select_option('before')
    p.page.locator('.grain-divider').last.wait_for()
    p.page.locator('.grain-divider').last.focus()
    for _ in range(10):
        p.page.keyboard.press('ArrowRight')                       # all of it is the picture before
    time.sleep(.3)
    assert p.seen('.grain-picture') == pixels
    p.python('ed.unpin(0); ed.unpin(1)')
    all_can_be_reached(p, 1280, 800)
    all_can_be_reached(p, 700, 900)
    p.clean()
    p.page.close()

def test_mouse_keyboard_files_and_a_kernel_that_is_gone(browser, served, tmp_path):
    p = with_a_picture(browser, served, 'plain.ipynb', 'ed')
    p.python('ed.all_coarse(); s0 = ed.sample; n0 = len(ed.map.past)')
    # 14 cells in 3 moves, one message
    p.drag((0, 0), (0, 7), (1, 7), (1, 2))
    p.until('ed.map.tensor.sum().item() == 14')
    assert p.python(
        'print(len(ed.map.past) - n0, ed.map.cells[0], sum(ed.map.cells[1]))') == '1 [1, 1, 1, 1, 1, 1, 1, 1] 6'
    p.shot('painted')
    p.press(p.python("print(ed.buttons['redraw'].description)"))
    p.until('ed.sample is not s0 and not ed.worker.busy')
    assert p.python(
        'import torch; from d2it_nb.grain import on_finest; '
        'R = on_finest(((ed.map.tensor != s0.M) | (ed.map.tensor == 1)).long()).bool().expand_as(s0.z); '
        'print(torch.equal(ed.sample.z[~R], s0.z[~R]), torch.equal(ed.sample.z, s0.z))') == 'True False'
    p.shot('editor')
    p.press('Undo')
    p.until('ed.sample is s0')
    p.press('Undo')
    p.until('ed.map.tensor.sum().item() == 0')
    cv = p.canvas()
    cv.focus()                                                # by keyboard
    for k in ('ArrowUp',)*8 + ('ArrowLeft',)*8 + ('ArrowDown', 'ArrowRight', ' ', 'Shift+ArrowRight',
                                                  'Shift+ArrowDown'):
        p.page.keyboard.press('Space' if k == ' ' else k)
    p.until('ed.map.tensor.nonzero()[:, 1:].tolist() == [[1, 1], [1, 2], [2, 2]]')
    p.page.keyboard.press('Control+z')
    p.until('ed.map.tensor.sum().item() == 2')
    p.page.keyboard.press('0')
    p.page.keyboard.press('f')
    p.page.keyboard.press('1')
    p.until('ed.grain.value == 1')
    # the notebook took none of these keys for itself
    assert p.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets.length") == 2
    p.press('rectangle')
    p.drag((4, 4), (6, 7))
    p.until('ed.map.tensor[0, 4:7, 4:].sum().item() == 12')
    p.press('fill')
    p.drag((7, 0))
    p.until('ed.map.tensor[0, 7].sum().item() == 8')
    p.press('brush')
    (tmp_path/'no.png').write_bytes(b'nonsense')
    (tmp_path/'map.json').write_text(json.dumps(dict(kind='GrainMap', k=2, cells=[[1, 0]*4]*8)))
    (tmp_path/'huge.png').write_bytes(bytes(9_000_000))
    p.page.set_input_files('.grain-open-picture', tmp_path/'no.png')
    p.until("'cannot be read as an image' in ed.message")
    p.page.set_input_files('.grain-open-map', tmp_path/'map.json')
    p.until('ed.map.tensor.sum().item() == 32')
    p.page.set_input_files('.grain-open-picture', tmp_path/'huge.png')
    p.page.get_by_text('huge.png has 9.0 MB').wait_for()
    p.python("from d2it_nb.data import *; bundled_photos()['coffee'].save(" + repr(str(tmp_path/'photo.png')) + ")")
    p.page.set_input_files('.grain-open-picture', tmp_path/'photo.png')
    p.until('ed.session.note.photo is not None')
    p.press('All fine')
    p.press('Re-encode')
    p.until("'re-encoded' in ed.message")
    p.shot('opened')
    with p.page.expect_download() as got:
        p.page.locator('.grain-save').last.select_option('map.json')
    assert json.loads(Path(got.value.path()).read_text())['cells'] == [[1]*8]*8
    p.page.get_by_text('Saved grain_map.json').wait_for()
    p.python("ed.wishes.label.value = 1; ed.wishes.steps.value = 100; s1 = ed.sample")
    p.press('New picture')
    p.until('ed.bar.value > 1')
    p.press('Stop')
    p.until('not ed.worker.busy')
    assert 'stopped after step' in p.python('print(ed.message)') and p.python('print(ed.sample is s1)') == 'True'
    # the doctor's last question
    p.clean()
    p.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.restartKernel()")
    p.page.get_by_text('re-run the cell').wait_for(timeout=30_000)
    p.page.close()

def test_a_large_map_and_an_error_in_the_sampler(browser, served):
    "32 × 32 cells of three grains: one message for a stroke of 256 cells, and the frames of a long drag"
    p = Page(browser, *served, 'big.ipynb')
    p.run_all()
    p.canvas().wait_for(timeout=60_000)
    p.python('heard = []; ed.canvas.on_msg(lambda _, m, b: heard.append(m)); ed.brush.value = 8')
    p.drag((3, 4), (3, 27), (11, 27), (11, 4), n=32)
    p.until('len(heard) == 1 and ed.canvas.cells == ed.map.cells and ed.map.tensor.bool().sum().item() >= 256')
    p.page.wait_for_function("() => [...document.querySelectorAll('.grain-editor')].at(-1).dataset.echo")
    echo = float(p.page.locator('.grain-editor').last.get_attribute('data-echo'))
    p.python('ed.brush.value = 3')
    p.drag((1, 1), n=32, hold=True)
    p.page.evaluate(
        "() => { window.frames_ = []; let t = performance.now(); "
        "const f = now => { window.frames_.push(now - t); t = now; "
        "if (window.frames_.length < 300) requestAnimationFrame(f); }; "
        "requestAnimationFrame(f); }")
    b = p.canvas().bounding_box()
    for i in range(60):
        p.page.mouse.move(*p.at(1 + 29*abs((i % 20) - 10)/10, 1 + i//2, 32, b))
    p.page.mouse.up()
    ms = sorted(p.page.evaluate('() => window.frames_.slice(2)'))
    print(f'\n32 × 32: stroke to echo {echo:.0f} ms; frames of a drag: median {ms[len(ms)//2]:.0f} ms, '
          f'longest {ms[-1]:.0f} ms, {len(ms)} frames')
    assert len(ms) > 10
    p.shot('large')
    p.press('New picture')
    p.until('ed.bar.value >= 2')
    # within one step of when it was heard
    p.python('seen = []; stop = ed.worker.stopping.set; '
             'ed.worker.stopping.set = lambda: (seen.append(ed.bar.value), stop())')
    p.press('Stop')
    p.until('not ed.worker.busy')
    assert p.python("print(int(ed.message.split()[3][:-1]) - seen[0])") in '01'
    p.python('ed.wishes.steps.value = 2')
    p.press('New picture')
    p.page.get_by_text('RuntimeError: out of ink').first.wait_for()
    p.clean()
    p.page.close()

def test_a_page_of_its_own(browser, tmp_path):
    "python -m d2it_nb.editor: on loopback, for those who have the token, and it asks nobody else"
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    command = [sys.executable, '-m', 'd2it_nb.editor', '--port', str(port), '--browser', '0']
    p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=open(tmp_path/'log', 'w'), text=True,
                         env=os.environ | dict(OMP_NUM_THREADS='1'), start_new_session=True)
    try:
        address = next(line for line in p.stdout if 'http' in line).split()[4]
        assert address.startswith(f'http://127.0.0.1:{port}/?token=')
        page = browser.new_page()
        answered = []
        page.on('response', lambda r: answered.append(r.url))
        end = time.time() + 60
        while True:
            try:
                page.goto(address.split('?')[0])
                break
            except Exception:
                assert time.time() < end and p.poll() is None, (tmp_path/'log').read_text()
                time.sleep(.3)
        assert '/login' in page.url                              # without the token
        page.goto(address)
        page.wait_for_selector('.grain-canvas', timeout=60_000)
        page.get_by_text('drawn in').first.wait_for()
        assert page.get_by_text('Error displaying widget').count() == 0
        away = [u for u in answered if not u.startswith((f'http://127.0.0.1:{port}/', 'data:', 'blob:'))]
        assert not away, away
        page.close()
    finally:
        os.killpg(p.pid, signal.SIGTERM)
        p.wait(30)
