// A grain map on a picture, and the picture as it is beside it; both are painted on.
// A cell is a pair [row, column]; sets of cells hold numbers, counted row by row.

// ---- which cells ----

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

function isOn(row, column, [rows, columns]) {
  return row >= 0 && column >= 0 && row < rows && column < columns;
}

function pairOf(number, columns) {
  return [Math.floor(number/columns), number % columns];
}

function rectangle(a, b, grid) {
  const found = [];
  for (let row = Math.min(a[0], b[0]); row <= Math.max(a[0], b[0]); row++) {
    for (let column = Math.min(a[1], b[1]); column <= Math.max(a[1], b[1]); column++) {
      if (isOn(row, column, grid)) found.push(row*grid[1] + column);
    }
  }
  return found;
}

function square([row, column], size, grid) {
  const [top, left] = [row - (size >> 1), column - (size >> 1)];
  return rectangle([top, left], [top + size - 1, left + size - 1], grid);
}

function line(a, b) {                          // of pairs: a fast drag leaves no gaps
  const n = Math.max(Math.abs(b[0] - a[0]), Math.abs(b[1] - a[1]), 1);
  const between = (i, axis) => Math.round(a[axis] + (b[axis] - a[axis])*i/n);
  const found = [];
  for (let i = 0; i <= n; i++) found.push([between(i, 0), between(i, 1)]);
  return found;
}

// ---- what part of the picture is seen: {left, top, part}, of a unit square ----

const WHOLE = {left: 0, top: 0, part: 1};
const NEAREST = 1/16;

function zoomed({left, top, part}, [u, v], factor) {        // (u, v) stays where it is
  const smaller = clamp(part/factor, NEAREST, 1);
  return {part: smaller,
          left: clamp(u - (u - left)*smaller/part, 0, 1 - smaller),
          top: clamp(v - (v - top)*smaller/part, 0, 1 - smaller)};
}

function moved({left, top, part}, du, dv) {
  return {part, left: clamp(left + du, 0, 1 - part), top: clamp(top + dv, 0, 1 - part)};
}

// ---- what is drawn below: the picture, and lines on it ----

const COARSE = [53, 100, 216];
const MIDDLE = [242, 240, 230];
const FINE = [216, 58, 53];

function colour(grain, k, alpha = 1) {
  const t = k > 1 ? grain/(k - 1) : 1;
  const [from, to, part] = t < .5 ? [COARSE, MIDDLE, 2*t] : [MIDDLE, FINE, 2*t - 1];
  const levels = from.map((level, i) => Math.round(level + (to[i] - level)*part));
  return `rgba(${levels.join(',')},${alpha})`;
}

function boxOf(view, row, column, {width, height}) {   // of a cell: left, top, right, bottom
  const [rows, columns] = view.get('grid');
  const {left, top, part} = view.look;
  const x = i => (i/columns - left)/part*width;
  const y = i => (i/rows - top)/part*height;
  return [x(column), y(row), x(column + 1), y(row + 1)];
}

function drawPicture(cx, picture, {left, top, part}, from = 0, to = 1) {
  const {width, height} = cx.canvas;
  if (!picture.complete || !picture.naturalWidth) return;
  cx.save();
  cx.beginPath();
  cx.rect(from*width, 0, (to - from)*width, height);
  cx.clip();
  cx.imageSmoothingEnabled = false;
  const [w, h] = [picture.naturalWidth, picture.naturalHeight];
  cx.drawImage(picture, left*w, top*h, part*w, part*h, 0, 0, width, height);
  cx.restore();
}

function cellsOf(view, has) {                        // their pairs
  const [rows, columns] = view.get('grid');
  const found = [];
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      if (has(row, column)) found.push([row, column]);
    }
  }
  return found;
}

function addCells(cx, view, cells) {                 // to the path
  for (const cell of cells) {
    const [left, top, right, bottom] = boxOf(view, ...cell, cx.canvas);
    cx.rect(left, top, right - left, bottom - top);
  }
}

function addBorder(cx, view, has) {                  // to the path: around the cells that it has
  const segment = (x0, y0, x1, y1) => {
    cx.moveTo(x0, y0);
    cx.lineTo(x1, y1);
  };
  for (const [row, column] of cellsOf(view, has)) {
    const [left, top, right, bottom] = boxOf(view, row, column, cx.canvas);
    const out = (down, along) => !isOn(row + down, column + along, view.get('grid'))
                                 || !has(row + down, column + along);
    if (out(-1, 0)) segment(left, top, right, top);
    if (out(1, 0)) segment(left, bottom, right, bottom);
    if (out(0, -1)) segment(left, top, left, bottom);
    if (out(0, 1)) segment(right, top, right, bottom);
  }
}

function drawCodes(cx, view) {                        // thin lines between the codes of finer cells
  const cells = view.get('cells');
  const thin = Math.max(1, cx.canvas.width/500);
  const lines = shift => {
    cx.beginPath();
    for (const [row, column] of cellsOf(view, (i, j) => cells[i][j] > 0)) {
      const [left, top, right, bottom] = boxOf(view, row, column, cx.canvas);
      const n = 2**cells[row][column];
      for (let i = 1; i < n; i++) {
        const [x, y] = [left + (right - left)*i/n + shift, top + (bottom - top)*i/n + shift];
        cx.moveTo(x, top);
        cx.lineTo(x, bottom);
        cx.moveTo(left, y);
        cx.lineTo(right, y);
      }
    }
  };
  for (const [shift, style] of [[thin/2, 'rgba(0,0,0,.4)'], [-thin/2, 'rgba(255,255,255,.6)']]) {
    lines(shift);
    cx.lineWidth = thin;
    cx.strokeStyle = style;
    cx.stroke();
  }
}

function drawGrains(cx, view) {                      // a line along each finer grain's edge, inside
  const [cells, k] = [view.get('cells'), view.get('k')];
  const thick = Math.max(2, cx.canvas.width/160);
  drawCodes(cx, view);
  for (let grain = 1; grain < k; grain++) {
    const has = (row, column) => cells[row][column] >= grain;
    cx.save();
    cx.beginPath();
    addCells(cx, view, cellsOf(view, has));
    cx.clip();                                       // so half of each line is seen
    cx.beginPath();
    addBorder(cx, view, has);
    cx.lineCap = 'square';
    for (const [width, style] of [[3.4*thick, '#fff'], [2*thick, colour(grain, k)]]) {
      cx.lineWidth = width;
      cx.strokeStyle = style;
      cx.stroke();
    }
    cx.restore();
  }
}

function drawMarks(cx, view) {                       // hatching: these will be drawn anew
  const columns = view.get('grid')[1];
  const {width, height} = cx.canvas;
  cx.save();
  cx.beginPath();
  addCells(cx, view, view.get('marked').map(number => pairOf(number, columns)));
  cx.clip();
  const step = Math.max(8, width/40);
  for (const [style, shift] of [['rgba(0,0,0,.75)', 0], ['rgba(255,255,255,.9)', step/2]]) {
    cx.strokeStyle = style;
    cx.lineWidth = Math.max(1, step/8);
    cx.beginPath();
    for (let x = shift - height; x < width; x += step) {
      cx.moveTo(x, height);
      cx.lineTo(x + height, 0);
    }
    cx.stroke();
  }
  cx.restore();
}

function drawBase(view, pane) {
  const {cx, canvas} = pane;
  canvas.dataset.frames = Number(canvas.dataset.frames || 0) + 1;
  cx.clearRect(0, 0, canvas.width, canvas.height);
  drawPicture(cx, view.picture, view.look);
  if (pane.clean) {
    if (view.get('other')) drawPicture(cx, view.other, view.look, 0, view.divider);
  } else if (!view.bare) {
    if (view.get('marked').length) drawMarks(cx, view);
    drawGrains(cx, view);
  }
}

// ---- what is drawn above: a stroke, cell by cell, and the cursor ----

function fillCell(view, {topCx}, number, ink) {      // null: nothing any more
  const columns = view.get('grid')[1];
  const [left, top, right, bottom] = boxOf(view, ...pairOf(number, columns), topCx.canvas);
  const where = [Math.round(left), Math.round(top),
                 Math.round(right) - Math.round(left), Math.round(bottom) - Math.round(top)];
  topCx.clearRect(...where);
  if (ink === null) return;
  topCx.fillStyle = colour(ink, view.get('k'), .6);
  topCx.fillRect(...where);
}

function drawCursor(view, {topCx, top}) {
  const [x0, y0, x1, y1] = boxOf(view, ...view.cursor, topCx.canvas);
  for (const [width, style, inset] of [[3, '#fff', 1.5], [1.5, '#000', 3]]) {
    topCx.lineWidth = width;
    topCx.strokeStyle = style;
    topCx.strokeRect(x0 + inset, y0 + inset, x1 - x0 - 2*inset, y1 - y0 - 2*inset);
  }
}

function drawTop(view, pane) {
  pane.topCx.clearRect(0, 0, pane.top.width, pane.top.height);
  for (const {cells, ink} of [...view.sent.values(), view.stroke]) {
    for (const number of cells) fillCell(view, pane, number, ink);
  }
  const root = pane.top.getRootNode();
  if (view.keys && root.activeElement === pane.top) drawCursor(view, pane);
}

// ---- messages to Python, and its answers ----

function download(name, parts) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob(parts));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function talk(model, say, answered) {                // whoever does not answer is busy or gone
  const me = Math.random().toString(36).slice(2);    // several views may show one editor
  const waiting = new Map();
  let number = 0;
  let complained = false;
  const complain = text => {
    complained = true;
    say(text, true);
  };

  function tell(what, buffers, patience = 5000) {
    const id = `${me}-${++number}`;
    const unheard = () => complain('No answer from Python. If it is busy, wait; '
                                   + 'if it was restarted, re-run the cell.');
    waiting.set(id, setTimeout(unheard, patience));
    try {
      model.send({...what, id}, undefined, buffers);
    } catch (error) {
      clearTimeout(waiting.get(id));
      complain('Python is gone: re-run the cell.');
    }
    return id;
  }

  const hear = (message, buffers) => {
    if (message.ack !== undefined && waiting.has(message.ack)) {
      clearTimeout(waiting.get(message.ack));
      waiting.delete(message.ack);
      if (complained) say('');
      complained = false;
      answered(message.ack);
    }
    if (message.file && message.to.startsWith(me + '-')) {
      download(message.file, buffers);
      say(`Saved ${message.file} where this browser keeps its downloads.`);
    }
  };
  const revived = () => tell({kind: 'ping'}, undefined, 2000);
  model.on('msg:custom', hear);
  model.on('comm_live_update', revived);
  const hush = () => {
    model.off('msg:custom', hear);
    model.off('comm_live_update', revived);
    waiting.forEach(clearTimeout);
  };
  return {tell, hush};
}

// ---- strokes ----

function placeOf(view, pane, event) {                // in the unit square
  const box = pane.top.getBoundingClientRect();
  const {left, top, part} = view.look;
  return [left + (event.clientX - box.left)/box.width*part,
          top + (event.clientY - box.top)/box.height*part];
}

function cellAt(view, pane, event) {
  const [rows, columns] = view.get('grid');
  const [u, v] = placeOf(view, pane, event);
  return [Math.floor(v*rows), Math.floor(u*columns)];
}

function moveCursor(view, [row, column]) {
  const [rows, columns] = view.get('grid');
  view.cursor = [clamp(row, 0, rows - 1), clamp(column, 0, columns - 1)];
}

function follow(view) {                              // the cursor, if it leaves what is seen
  const [rows, columns] = view.get('grid');
  const {left, top, part} = view.look;
  const out = (at, count, from) => Math.min(0, at/count - from)
                                   + Math.max(0, (at + 1)/count - from - part);
  view.look = moved(view.look, out(view.cursor[1], columns, left), out(view.cursor[0], rows, top));
}

function show(view, number, ink) {                   // one cell, on both panes
  for (const pane of view.panes) {
    fillCell(view, pane, number, ink);
    pane.canvas.dataset.cells = Number(pane.canvas.dataset.cells || 0) + 1;
  }
}

function add(view, numbers) {
  for (const number of numbers) {
    if (view.stroke.cells.has(number)) continue;
    view.stroke.cells.add(number);
    show(view, number, view.stroke.ink);
  }
}

function dab(view, cell) {
  add(view, square(cell, view.get('brush'), view.get('grid')));
}

const NO_STROKE = {cells: [], ink: null};

function begin(view, ink) {
  view.stroke = {cells: new Set(), ink};
  view.panes.forEach(pane => { pane.canvas.dataset.cells = 0; });
}

function strokeTo(view, cell) {
  if (view.get('tool') === 'rectangle') {
    const wanted = new Set(rectangle(view.from, cell, view.get('grid')));
    for (const number of view.stroke.cells) {
      if (wanted.has(number)) continue;
      view.stroke.cells.delete(number);
      show(view, number, null);
    }
    add(view, wanted);
  } else {
    line(view.last, cell).forEach(between => dab(view, between));
  }
  view.last = cell;
}

function end(view) {
  const {stroke, tell, sent} = view;
  cancel(view);
  if (!stroke.cells.size) return;
  const id = tell({kind: 'paint', cells: [...stroke.cells], grain: stroke.ink});
  sent.set(id, {...stroke, ended: performance.now()});     // shown until Python has answered
}

function cancel(view) {
  view.stroke = NO_STROKE;
  view.redraw();
}

function dot(view) {
  begin(view, view.get('grain'));
  dab(view, view.cursor);
  end(view);
}

function fill(view, grain) {
  view.tell({kind: 'fill', at: view.cursor, grain});
}

// ---- pointer and keys ----

function look(view, next) {
  view.look = next;
  view.redraw();
}

function listenToPointer(view, pane) {
  const {top} = pane;
  let grip = null;                                   // where a pan began
  let finger = null;                                 // the pointer that draws or pans
  top.addEventListener('contextmenu', event => event.preventDefault());
  top.addEventListener('pointerdown', event => {
    if (view.stroke !== NO_STROKE || grip) return;   // a second finger
    view.keys = false;
    top.focus({preventScroll: true});
    const cell = cellAt(view, pane, event);
    finger = event.pointerId;
    if (event.button === 1 || event.shiftKey) {
      event.preventDefault();
      grip = placeOf(view, pane, event);
    } else {
      const ink = event.button === 2 ? 0 : view.get('grain');
      moveCursor(view, cell);
      if (view.get('tool') === 'fill') return fill(view, ink);
      begin(view, ink);
      view.from = view.last = cell;
      strokeTo(view, cell);
    }
    top.setPointerCapture(event.pointerId);
  });
  top.addEventListener('pointermove', event => {
    if (event.pointerId !== finger) return;
    if (grip) {
      const [u, v] = placeOf(view, pane, event);
      return look(view, moved(view.look, grip[0] - u, grip[1] - v));
    }
    if (view.stroke === NO_STROKE) return;
    const between = event.getCoalescedEvents?.() || [];     // several moves in one event
    for (const one of between.length ? between : [event]) strokeTo(view, cellAt(view, pane, one));
  });
  top.addEventListener('pointerup', event => {
    if (event.pointerId !== finger) return;
    finger = null;
    if (grip) {
      grip = null;
    } else if (view.stroke !== NO_STROKE) {
      strokeTo(view, cellAt(view, pane, event));
      end(view);
    }
  });
  top.addEventListener('pointercancel', event => {
    if (event.pointerId !== finger) return;
    finger = grip = null;
    cancel(view);
  });
  top.addEventListener('wheel', event => {
    const at = top.getRootNode().activeElement;
    const here = view.panes.some(one => one.top === at);
    if (event.ctrlKey) event.preventDefault();       // the page is not to be zoomed
    else if (!here) return;                          // it scrolls
    const factor = Math.exp(-clamp(event.deltaY, -100, 100)/450);
    const next = zoomed(view.look, placeOf(view, pane, event), factor);
    if (next.part === view.look.part) return;        // nothing to zoom: the page may scroll
    event.preventDefault();
    look(view, next);
  }, {passive: false});
}

const ARROWS = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};
const ACTIONS = {enter: 'redraw', n: 'new', c: 'pin'};

function press(view, event) {                        // true: the key was for the map
  const {model, get, tell, cursor} = view;
  const arrow = ARROWS[event.key];
  const key = event.key.toLowerCase();
  const control = event.ctrlKey || event.metaKey;
  const middle = [view.look.left + view.look.part/2, view.look.top + view.look.part/2];
  if (arrow) {
    moveCursor(view, [cursor[0] + arrow[0], cursor[1] + arrow[1]]);
    follow(view);
    if (event.shiftKey) dot(view);
  } else if (key === ' ') {
    dot(view);
  } else if (control && key === 'z') {
    tell({kind: event.shiftKey ? 'redo' : 'undo'});
  } else if (control || event.altKey) {
    return false;
  } else if (key === 'f') {
    fill(view, get('grain'));
  } else if (key === 'p') {
    view.bare = true;
  } else if (key === '+' || key === '-') {
    look(view, zoomed(view.look, middle, key === '+' ? 1.25 : .8));
  } else if (key === 'escape') {
    if (view.stroke === NO_STROKE) look(view, WHOLE);
    cancel(view);
  } else if (ACTIONS[key]) {
    if (!event.repeat) tell({kind: ACTIONS[key]});
  } else if (/^[0-9]$/.test(key) && Number(key) < get('k')) {
    model.set('grain', Number(key));
    model.save_changes();
  } else {
    return false;
  }
  return true;
}

function tellCursor(view) {                          // to those who don't see it
  const [row, column] = view.cursor;
  const grain = `${view.get('cells')[row][column]} of ${view.get('k') - 1}`;
  view.aloud.textContent = `row ${row + 1}, column ${column + 1}: ${grain}, `
                           + `painting ${view.get('grain')}`;
}

function listenToKeys(view, pane) {
  const {top} = pane;
  top.addEventListener('keydown', event => {
    if (!press(view, event)) return;
    event.preventDefault();
    event.stopPropagation();
    view.keys = true;
    tellCursor(view);
    view.redraw();
  });
  const covered = () => {
    if (view.bare) view.redraw();
    view.bare = false;
  };
  top.addEventListener('keyup', event => { if (event.key.toLowerCase() === 'p') covered(); });
  top.addEventListener('focus', () => drawTop(view, pane));
  top.addEventListener('blur', () => {
    covered();
    view.keys = true;                                // it may come back by the tab key
    drawTop(view, pane);
  });
}

// ---- elements ----

const HELP = [
  ['drag', 'paint; with the right button: coarse'],
  ['wheel, + −', 'zoom; the wheel after a click, or with ctrl'],
  ['shift and drag', 'move the zoomed picture'],
  ['Esc', 'the whole picture'],
  ['hold P', 'the picture without the map'],
  ['0, 1 …', 'grain: 0 is coarsest'],
  ['arrows, space', 'move, paint; shift and arrows: paint'],
  ['F', 'fill'],
  ['Enter', 'redraw what was painted'],
  ['N', 'new picture'],
  ['C', 'keep the picture for comparison'],
  ['ctrl Z, shift ctrl Z', 'undo, redo']];
const SAVES = [
  ['picture', 'picture.png'],
  ['map, to be opened again', 'map.json'],
  ['map as a picture', 'map.png'],
  ['compared pictures as a row', 'row.png'],
  ['all pictures, to be opened again', 'session.json']];
const LABEL = 'Grain map. Arrows move, space paints, with shift arrows paint, '
              + 'digits choose the grain, F fills, control Z undoes.';
const LARGEST = 8e6;      // bytes: what a notebook server passes on without closing the connection

function make(tag, name, into, text = '') {
  const element = document.createElement(tag);
  element.className = name;
  element.textContent = text;
  into.appendChild(element);
  return element;
}

function makePane(into, clean) {
  const box = make('figure', 'grain-pane', into);
  const caption = make('figcaption', 'grain-caption', box);
  const stack = make('div', 'grain-stack', box);
  const canvas = make('canvas', clean ? 'grain-picture' : 'grain-canvas', stack);
  const top = make('canvas', 'grain-top', stack);
  top.tabIndex = 0;
  top.setAttribute('role', 'application');
  top.setAttribute('aria-label', LABEL);
  const [cx, topCx] = [canvas, top].map(one => one.getContext('2d'));
  return {clean, caption, stack, canvas, top, cx, topCx};
}

function makeDivider(view, {stack}) {
  const handle = make('div', 'grain-divider', stack);
  handle.tabIndex = 0;
  handle.setAttribute('role', 'slider');
  handle.setAttribute('aria-label', 'divider: left of it the other picture, right of it this one');
  handle.setAttribute('aria-valuemin', 0);
  handle.setAttribute('aria-valuemax', 100);
  handle.setAttribute('aria-valuenow', Math.round(100*view.divider));
  const move = to => {
    view.divider = clamp(to, 0, 1);
    handle.setAttribute('aria-valuenow', Math.round(100*view.divider));
    view.redraw();
  };
  handle.addEventListener('pointerdown', event => {
    event.stopPropagation();
    handle.setPointerCapture(event.pointerId);
  });
  handle.addEventListener('pointermove', event => {
    if (!handle.hasPointerCapture(event.pointerId)) return;
    const box = stack.getBoundingClientRect();
    move((event.clientX - box.left)/box.width);
  });
  handle.addEventListener('keydown', event => {
    const step = {ArrowLeft: -.05, ArrowRight: .05}[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    move(view.divider + step);
  });
  return handle;
}

async function sendFile(file, what, {tell, say}) {
  if (file.size > LARGEST) {
    say(`${file.name} has ${(file.size/1e6).toFixed(1)} MB; up to ${LARGEST/1e6} MB `
        + `can be opened here. In a cell: editor.open${what === 'map' ? '_map(bytes)' : '(path)'} `
        + 'takes any.', true);
  } else {
    tell({kind: 'open', what, name: file.name}, [await file.arrayBuffer()], 30000);
  }
}

function addButton(label, tip, act, into) {
  const made = make('button', 'jupyter-widgets jupyter-button widget-button', into, label);
  made.title = tip;
  made.addEventListener('click', act);
}

function addOpener(label, tip, accept, what, view, into) {
  const input = make('input', 'grain-open-' + what, into);
  addButton(label, tip, () => input.click(), into);
  input.type = 'file';
  input.accept = accept;
  input.style.display = 'none';
  input.addEventListener('change', () => {
    const file = input.files[0];
    if (!file) return;
    input.value = '';
    return sendFile(file, what, view);
  });
}

function addFiles(view, into) {
  addOpener('Open picture…', 'begin with a picture of your own', 'image/*', 'picture', view, into);
  addOpener('Open map…', 'a map or a session that was saved here (.json), or a picture of a map',
            '.json,.png', 'map', view, into);
  const saver = make('select', 'grain-save', into);
  saver.title = 'to where this browser keeps its downloads';
  for (const [label, what] of [['Save …', ''], ...SAVES]) make('option', '', saver, label).value = what;
  saver.addEventListener('change', () => {
    view.tell({kind: 'save', what: saver.value});
    saver.value = '';
  });
  const help = make('details', 'grain-help', into);
  make('summary', 'jupyter-widgets jupyter-button widget-button', help, '?').title
    = 'what mouse and keys do';
  const table = make('table', '', help);
  for (const [key, what] of HELP) {
    const row = make('tr', '', table);
    make('th', '', row, key);
    make('td', '', row, what);
  }
}

// ---- pictures that were there before, and those that are compared ----

const HEADINGS = {results: 'The newest pictures; a click brings one back',
                  pinned: 'Kept to compare; captions tell what differs'};

function makeShelf(view, name, into, onlyWhole) {
  const box = make('section', '', into);
  const heading = make('div', 'grain-caption', box, HEADINGS[name]);
  const row = make('div', `grain-shelf grain-${name}`, box);
  let shown = [];

  function place({url, caption, tip, number}) {
    const item = make('figure', 'grain-item', row);
    const canvas = make('canvas', '', item);
    const image = new Image();
    canvas.tabIndex = 0;
    canvas.title = tip;
    canvas.setAttribute('role', 'button');
    canvas.setAttribute('aria-label', `bring back: ${tip}`);
    const back = () => view.tell({kind: 'restore', number});
    canvas.addEventListener('click', back);
    canvas.addEventListener('keydown', event => {
      if (event.key !== 'Enter' && event.key !== ' ') return;
      event.preventDefault();
      back();
    });
    make('figcaption', 'grain-caption', item, caption);
    if (!onlyWhole) {
      const away = make('button', 'grain-away', item, '×');
      away.title = 'no longer compare this one';
      away.addEventListener('click', () => view.tell({kind: 'unpin', number}));
    }
    image.onload = view.redraw;
    image.src = url;
    return {canvas, image, item, number};
  }

  return {
    fill() {
      row.replaceChildren();
      shown = view.get(name).map(place);
      heading.hidden = !shown.length;
    },
    draw() {
      const sharp = window.devicePixelRatio || 1;
      for (const {canvas, image, item, number} of shown) {
        item.classList.toggle('grain-now', number === view.get('current'));
        const side = Math.round(canvas.clientWidth*sharp);
        if (canvas.width !== side) Object.assign(canvas, {width: side, height: side});
        drawPicture(canvas.getContext('2d'), image, onlyWhole ? WHOLE : view.look);
      }
    }};
}

// ---- all of it ----

const GAP = 12;
const NARROW = 430;                                  // pixels: below, one pane under the other

function fit(view, box) {                            // the panes to the room there is
  const [rows, columns] = view.get('grid');
  const room = Math.max(120, box.clientWidth);
  const stacked = room < NARROW;
  const widest = stacked ? room : (room - GAP)/2;
  const tallest = Math.max(180, (stacked ? .34 : .55)*window.innerHeight);
  const side = Math.max(1, Math.floor(Math.min(widest/columns, tallest/rows)));
  const [width, height] = [side*columns, side*rows];
  const sharp = window.devicePixelRatio || 1;
  box.classList.toggle('grain-stacked', stacked);
  for (const {stack, caption, canvas, top} of view.panes) {
    Object.assign(stack.style, {width: `${width}px`, height: `${height}px`});
    caption.style.width = `${width}px`;
    for (const one of [canvas, top]) {
      const [w, h] = [Math.round(width*sharp), Math.round(height*sharp)];
      if (one.width !== w || one.height !== h) Object.assign(one, {width: w, height: h});
    }
  }
  view.redraw();
}

function loader(view, name) {                        // keeps an image in step with its trait
  return () => {
    const url = view.get(name);
    if (url) {
      view[name].src = url;
    } else {
      view[name].removeAttribute('src');
      view.redraw();
    }
  };
}

function render({model, el}) {
  const root = make('div', 'grain-editor', el);
  root.setAttribute('data-lm-suppress-shortcuts', 'true');
  const panes = make('div', 'grain-panes', root);
  const said = make('div', 'grain-said', root);
  const files = make('div', 'grain-files', root);
  const shelves = make('div', 'grain-shelves', root);
  const aloud = make('div', 'grain-aloud', root);
  said.setAttribute('role', 'status');
  aloud.setAttribute('aria-live', 'polite');
  const say = (text, bad = false) => {
    said.textContent = text;
    said.classList.toggle('grain-bad', bad);
  };
  const sent = new Map();                            // strokes, until they are answered
  const {tell, hush} = talk(model, say, id => {
    if (!sent.has(id)) return;
    root.dataset.echo = performance.now() - sent.get(id).ended;      // milliseconds
    sent.delete(id);
    redraw();
  });

  let wanted = 0;                                    // a frame that has been asked for
  const redraw = () => { wanted ||= requestAnimationFrame(frame); };
  const view = {model, tell, say, redraw, aloud, get: name => model.get(name),
                picture: new Image(), other: new Image(), panes: [],
                look: WHOLE, divider: .5, bare: false, keys: true,
                cursor: [0, 0], stroke: NO_STROKE, sent, from: null, last: null};
  view.panes = [makePane(panes, false), makePane(panes, true)];
  const divider = makeDivider(view, view.panes[1]);
  const [results, pinned] = [makeShelf(view, 'results', shelves, true),
                             makeShelf(view, 'pinned', shelves, false)];
  function frame() {
    wanted = 0;
    divider.hidden = !view.get('other');
    divider.style.left = `${100*view.divider}%`;
    view.panes.forEach((pane, i) => {
      pane.caption.textContent = view.get('captions')[i] || '';
      drawBase(view, pane);
      drawTop(view, pane);
    });
    pinned.draw();
    results.draw();
  }

  view.panes.forEach(pane => {
    listenToPointer(view, pane);
    listenToKeys(view, pane);
  });
  addFiles(view, files);
  const loads = {picture: loader(view, 'picture'), other: loader(view, 'other')};
  const refit = () => fit(view, panes);
  const heard = {'change:picture': loads.picture, 'change:other': loads.other,
                 'change:grid': refit};
  for (const [name, shelf] of Object.entries({pinned, results})) {
    heard['change:' + name] = () => {
      shelf.fill();
      redraw();
    };
  }
  for (const name of ['k', 'marked', 'captions', 'current']) heard['change:' + name] = redraw;
  heard['change:cells'] = () => {
    if (aloud.textContent) tellCursor(view);
    redraw();
  };
  Object.entries(heard).forEach(([name, act]) => model.on(name, act));
  view.picture.onload = view.other.onload = redraw;
  const watch = new ResizeObserver(refit);
  watch.observe(panes);
  window.addEventListener('resize', refit);
  Object.values(loads).forEach(load => load());
  [pinned, results].forEach(shelf => shelf.fill());
  refit();
  return () => {
    Object.entries(heard).forEach(([name, act]) => model.off(name, act));
    watch.disconnect();
    window.removeEventListener('resize', refit);
    hush();
  };
}
export default {render};
