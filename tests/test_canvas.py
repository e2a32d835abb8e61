"""The editor's JavaScript alone, in a real Chromium, with a model that writes down what it is told: strokes, zoom, divider, keys, files, sizes."""
import base64, io
from pathlib import Path
import pytest, torch
from PIL import Image
from fuzz import CHROMIUM
if not CHROMIUM:
    pytest.skip('NO CHROMIUM HERE: the canvas is not tested (Debian: apt-get install chromium)', allow_module_level=True)
from playwright.sync_api import sync_playwright
PACKAGE = Path(__file__).parent.parent/'d2it_nb'

PAGE = """<!doctype html><style>CSS</style><div id="here"></div><script type="module">
import editor from '/editor.js';
class Model {
  constructor(state) { this.state = state; this.sent = []; this.acts = {}; }
  get(name) { return this.state[name]; }
  set(name, value) { this.state[name] = value; this.fire('change:' + name); }
  save_changes() {}
  on(name, act) { (this.acts[name] ||= []).push(act); }
  off(name, act) { this.acts[name] = (this.acts[name] || []).filter(one => one !== act); }
  fire(name, ...more) { (this.acts[name] || []).forEach(act => act(...more)); }
  send(what, _, buffers) {
    this.sent.push(what);
    if (this.answers) setTimeout(() => this.fire('msg:custom', {ack: what.id}, []));
  }
}
window.start = state => {
  window.model = new Model(state);
  window.model.answers = true;
  window.finish = editor.render({model: window.model, el: document.getElementById('here')});
};
</script>"""

@pytest.fixture(scope='module')
def browser():
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        yield b
        b.close()

def picture(seed, side=64):
    x = torch.randint(256, (side, side, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    file = io.BytesIO()
    Image.fromarray(x.numpy()).save(file, 'PNG')
    return x, 'data:image/png;base64,' + base64.b64encode(file.getvalue()).decode()

class View:
    def __init__(self, browser, n=8, k=2, size=(1000, 800), **state):
        self.n = n
        self.page = browser.new_page(viewport=dict(width=size[0], height=size[1]))
        self.page.route('**/*', self._serve)
        self.page.goto('http://editor.test/')
        self.page.wait_for_function('() => !!window.start')
        usual = dict(grid=[n, n], cells=[[0]*n]*n, marked=[], k=k, brush=1, grain=k - 1, tool='brush',
                     picture='', other='', captions=['map', 'picture'], pinned=[], results=[], current=-1)
        self.page.evaluate('state => window.start(state)', usual | state)
        self.settle()
    def _serve(self, route):
        if route.request.url.endswith('editor.js'):
            route.fulfill(body=(PACKAGE/'editor.js').read_text(), content_type='text/javascript')
        else:
            route.fulfill(body=PAGE.replace('CSS', (PACKAGE/'editor.css').read_text()),
                          content_type='text/html')
    def settle(self):
        self.page.evaluate('() => new Promise(done => setTimeout(() => '
                           'requestAnimationFrame(() => requestAnimationFrame(done)), 30))')
    def sent(self, kind='paint'):
        return [m for m in self.page.evaluate('() => window.model.sent') if m['kind'] == kind]
    def at(self, row, column, pane=0):
        b = self.page.locator('.grain-top').nth(pane).bounding_box()
        return b['x'] + (column + .5)*b['width']/self.n, b['y'] + (row + .5)*b['height']/self.n
    def drag(self, *cells, pane=0, button='left', up=True):
        self.page.mouse.move(*self.at(*cells[0], pane))
        self.page.mouse.down(button=button)
        for cell in cells[1:]:
            self.page.mouse.move(*self.at(*cell, pane))
        if up:
            self.page.mouse.up(button=button)
    def pixels(self, name, side=64):
        "What the canvas shows at the middle of each of the picture's pixels, (side,side,3)"
        found = self.page.evaluate("""([name, side]) => {
            const c = document.querySelector(name), cx = c.getContext('2d'), out = [];
            for (let i = 0; i < side; i++) for (let j = 0; j < side; j++)
                out.push([...cx.getImageData((j + .5)*c.width/side, (i + .5)*c.height/side, 1, 1).data].slice(0, 3));
            return out; }""", [name, side])
        return torch.tensor(found, dtype=torch.uint8).view(side, side, 3)
    def data(self, name, pane=0):
        return int(self.page.locator('.grain-stack > canvas:first-child').nth(pane)
                   .evaluate('(e, name) => e.dataset[name] || 0', name))
    def set(self, name, value):
        self.page.evaluate('([name, value]) => window.model.set(name, value)', [name, value])
        self.settle()
    def close(self):
        self.page.close()

def test_the_shown_picture_is_the_picture(browser):
    x,url = picture(0)
    v = View(browser, picture=url, cells=[[0]*4 + [1]*4]*8, marked=[0, 1])
    assert torch.equal(v.pixels('.grain-picture'), x)
    under = v.pixels('.grain-canvas')
    # on the other side lines and hatching, and between them the picture, untinted
    inside = (slice(18, 62), slice(38, 62))
    assert not torch.equal(under, x) and torch.equal(under[inside], x[inside])
    # the line is on the fine side: just coarse of it nothing is changed
    assert torch.equal(under[8:, :32], x[8:, :32]) and not torch.equal(under[8:, 32], x[8:, 32])
    v.page.locator('.grain-top').first.focus()
    v.page.keyboard.down('p')
    v.settle()
    assert torch.equal(v.pixels('.grain-canvas'), x)
    v.page.keyboard.up('p')
    v.settle()
    assert torch.equal(v.pixels('.grain-canvas'), under)
    v.close()

def test_a_stroke_is_one_message_and_draws_its_own_cells_only(browser):
    for n in (8, 32):
        v = View(browser, n)
        frames = v.data('frames')
        v.drag((0, 0), (0, 7), (1, 7), (1, 2), up=False)
        assert (v.data('cells'), v.data('cells', 1), v.data('frames')) == (14, 14, frames)
        assert not v.sent()
        v.page.mouse.up()
        told, = v.sent()
        assert (sorted(told['cells']), told['grain']) == ([*range(8), *range(n + 2, n + 8)], 1)
        v.close()

def test_each_tool_pane_and_button(browser):
    v = View(browser)
    v.drag((1, 1), button='right')
    v.drag((2, 2), (2, 3), pane=1)
    v.set('tool', 'rectangle')
    v.drag((4, 4), (7, 7), (5, 6))                       # it shrinks again
    told = v.sent()
    assert [(sorted(m['cells']), m['grain']) for m in told] == [
        ([9], 0), ([18, 19], 1), ([36, 37, 38, 44, 45, 46], 1)]
    v.set('tool', 'fill')
    v.drag((7, 0), button='right')
    assert [(m['at'], m['grain']) for m in v.sent('fill')] == [([7, 0], 0)]
    v.set('tool', 'brush')
    v.set('brush', 3)
    v.drag((0, 0))
    assert sorted(v.sent()[-1]['cells']) == [0, 1, 8, 9]      # beyond the edge is nothing
    assert v.page.evaluate("""() => !document.querySelector('.grain-top').dispatchEvent(
        new MouseEvent('contextmenu', {cancelable: true}))""")
    v.close()

def place(row, column, n, part):
    "Where a cell of a map is seen that is zoomed around its middle, in cells of the whole"
    left = .5 - part/2
    return [((i + .5)/n - left)/part*n - .5 for i in (row, column)]

def test_zoom(browser):
    x,url = picture(1)
    v = View(browser, picture=url)
    v.page.mouse.move(*v.at(-.49, -.49))
    def wheel():
        for _ in range(20):
            v.page.mouse.wheel(0, -100)
        v.settle()
    wheel()
    assert torch.equal(v.pixels('.grain-picture'), x)        # whoever scrolls by does not zoom
    v.page.locator('.grain-top').nth(1).focus()              # either pane
    wheel()
    assert torch.equal(v.pixels('.grain-picture', 4), x[:4, :4])            # a sixteenth
    assert v.page.evaluate("""() => !document.querySelector('.grain-top').dispatchEvent(
        new WheelEvent('wheel', {deltaY: -100, ctrlKey: true, cancelable: true}))""")
    v.page.locator('.grain-top').first.focus()
    v.page.keyboard.press('Escape')
    v.settle()
    assert torch.equal(v.pixels('.grain-picture'), x)
    for _ in range(3):
        v.page.keyboard.press('+')
    v.page.keyboard.down('Shift')
    v.drag((0, 0), (7, 7))                               # to its corner
    v.page.keyboard.up('Shift')
    v.drag((-.4, -.4))
    told, = v.sent()
    assert told['cells'] == [0]
    v.close()

def test_fourteen_cells_in_three_moves_at_zoom_two(browser):
    v = View(browser, 16)
    v.page.locator('.grain-top').first.focus()
    for _ in range(3):
        v.page.keyboard.press('+')
    v.settle()
    v.drag(*[place(*cell, 16, 1.25**-3) for cell in ((5, 5), (5, 11), (6, 11), (6, 5))])
    told, = v.sent()
    assert sorted(told['cells']) == [*range(85, 92), *range(101, 108)]
    v.close()

def test_the_divider(browser):
    (x,url),(y,other) = picture(2),picture(3)
    v = View(browser, picture=url)
    assert not v.page.locator('.grain-divider').is_visible()
    v.set('other', other)
    both = v.pixels('.grain-picture')
    assert torch.equal(both[:, :31], y[:, :31]) and torch.equal(both[:, 33:], x[:, 33:])
    b = v.page.locator('.grain-divider').bounding_box()
    middle = b['x'] + b['width']/2, b['y'] + 20
    v.page.mouse.move(*middle)
    v.page.mouse.down()
    v.page.mouse.move(middle[0] - 2000, middle[1])
    v.page.mouse.up()
    v.settle()
    assert torch.equal(v.pixels('.grain-picture'), x) and not v.sent()
    v.page.locator('.grain-divider').focus()
    for _ in range(20):
        v.page.keyboard.press('ArrowRight')
    v.settle()
    assert torch.equal(v.pixels('.grain-picture'), y)
    v.close()

def test_keys(browser):
    v = View(browser, k=3)
    v.page.locator('.grain-top').first.focus()
    for key in ('ArrowDown', 'ArrowRight', 'Space', 'Shift+ArrowRight', '1', 'f', 'Enter', 'n', 'c',
                'Control+z', 'Control+Shift+z', '7'):
        v.page.keyboard.press(key)
    told = v.page.evaluate('() => window.model.sent')
    assert [m['kind'] for m in told] == ['paint', 'paint', 'fill', 'redraw', 'new', 'pin', 'undo', 'redo']
    assert [told[0]['cells'], told[1]['cells'], told[2]['at']] == [[9], [10], [1, 2]]
    assert v.page.evaluate('() => window.model.state.grain') == 1
    assert v.page.locator('.grain-aloud').text_content() == 'row 2, column 3: 0 of 2, painting 1'
    v.page.locator('.grain-help summary').click()
    assert v.page.locator('.grain-help').get_by_text('hold P').is_visible()
    v.close()

def test_what_is_painted_stays_until_python_has_answered(browser):
    v = View(browser)
    v.page.evaluate('() => { window.model.answers = false; }')
    v.drag((3, 3))
    v.settle()
    def seen():
        return v.page.evaluate("""() => { const c = document.querySelector('.grain-top');
            return c.getContext('2d').getImageData(3.5*c.width/8, 3.5*c.height/8, 1, 1).data[3]; }""")
    assert seen() > 0
    v.page.evaluate("() => window.model.fire('msg:custom', {ack: window.model.sent[0].id}, [])")
    v.settle()
    assert seen() == 0
    v.page.evaluate("() => { window.model.send = () => { throw new Error('closed'); }; }")
    v.drag((4, 4))
    assert 're-run the cell' in v.page.locator('.grain-said').text_content()
    v.close()

def test_thumbnails_and_compared_pictures(browser):
    x,url = picture(4)
    item,second = (dict(url=url, caption='1: roses', tip='seed 3', number=i) for i in (4, 7))
    v = View(browser, picture=url, pinned=[item, second], results=[item])
    assert torch.equal(v.pixels('.grain-results canvas'), x) and torch.equal(v.pixels('.grain-pinned canvas'), x)
    v.page.locator('.grain-top').first.focus()
    v.page.mouse.move(*v.at(-.49, -.49))
    for _ in range(20):
        v.page.mouse.wheel(0, -100)
    v.settle()
    # compared at the same zoom; the thumbnail shows all of it
    assert torch.equal(v.pixels('.grain-pinned canvas', 4), x[:4, :4])
    assert torch.equal(v.pixels('.grain-results canvas'), x)
    v.set('current', 7)
    assert v.page.locator('.grain-item').evaluate_all(
        "all => all.map(one => one.classList.contains('grain-now'))") == [False, False, True]
    v.page.locator('.grain-pinned canvas').nth(1).click()
    v.page.locator('.grain-results canvas').press('Enter')
    v.page.locator('.grain-away').first.click()
    assert [m['number'] for m in v.sent('restore')] == [7, 4]
    assert v.sent('unpin')[0]['number'] == 4
    v.set('pinned', [])
    assert v.page.locator('.grain-pinned canvas').count() == 0
    v.close()

def test_it_grows_and_stacks(browser):
    def sides(width, height):
        v = View(browser, 8, size=(width, height))
        boxes = [v.page.locator('.grain-top').nth(i).bounding_box() for i in (0, 1)]
        v.close()
        return boxes
    (a,b),(c,d),(e,f) = sides(1400, 1000), sides(800, 1000), sides(400, 900)
    assert a['width'] == a['height'] == b['width'] and a['y'] == b['y']
    assert a['width'] > c['width'] > 350 and a['width'] <= 550
    assert f['y'] > e['y'] + e['height'] and f['y'] + f['height'] < 700 and e['width'] > 290

def test_it_saves_and_leaves_nobody_listening(browser):
    v = View(browser)
    with v.page.expect_download() as got:
        v.page.locator('.grain-save').select_option('map.json')
        assert v.sent('save')[0]['what'] == 'map.json'
        v.page.evaluate("""() => window.model.fire('msg:custom', {file: 'grain_map.json',
            to: window.model.sent.at(-1).id}, [new TextEncoder().encode('{}')])""")
    assert got.value.suggested_filename == 'grain_map.json'
    assert 'Saved grain_map.json' in v.page.locator('.grain-said').text_content()
    v.page.evaluate('() => window.finish()')
    assert v.page.evaluate('() => Object.values(window.model.acts).flat().length') == 0
    v.close()
