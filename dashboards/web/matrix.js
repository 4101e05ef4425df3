// The matrix: one cell for each source and region, patched in place. The elements are made anew only when the sources or
// the regions change; a number that changes is a text node that changes, so focus and pointer keep their cell.

import { $, count, duration, el, ms, percent, sentence, setAttr, setData, setText } from './dom.js';
import { MARKS } from './state.js';

const STATE_WORDS = { ok: 'ok', slow: 'slow for this path', lossy: 'lossy', down: 'down', unknown: 'unknown', stale: 'stale' };
// From here on an ok cell is as light as it gets: about the longest way around the planet.
const FAR_MS = 280;

export class Matrix {
  #grid = $('grid');
  #readout = new Readout($('readout'));
  #onChoose;
  #shape = '';
  #data = null;
  #rows = []; // [{row, head, cells: [{td, mark, value}]}]
  #at = { row: 0, column: -1 }; // the one focusable cell; column −1 is the row's head
  #pointed = null;

  constructor(onChoose) {
    this.#onChoose = onChoose;
    this.#grid.addEventListener('keydown', event => this.#onKey(event));
    this.#grid.addEventListener('focusin', event => this.#onFocus(event));
    this.#grid.addEventListener('focusout', () => this.#read());
    this.#grid.addEventListener('click', event => this.#onClick(event));
    this.#grid.addEventListener('pointerover', event => this.#point(this.#place(event.target)));
    this.#grid.addEventListener('pointerleave', () => this.#point(null));
  }

  /** Shows `data` (an answer of /matrix, or null) with the row of `source` marked. */
  render(data, source) {
    this.#grid.hidden = !data?.sources.length;
    if (!data?.sources.length) return;
    const fresh = this.#build(data) || this.#data?.service !== data.service;
    this.#data = data;
    for (const [r, { row, head, cells }] of this.#rows.entries()) {
      const chosen = data.sources[r] === source;
      setAttr(row, 'aria-selected', chosen);
      setAttr(head, 'aria-label', chosen ? `${data.sources[r]}, chosen for hints` : null);
      for (const [c, cell] of cells.entries()) patchCell(cell, this.#cell(r, c), fresh);
    }
    this.#read();
  }

  /** Makes the table if its shape has changed, and says whether it did. */
  #build({ sources, regions }) {
    const shape = JSON.stringify([sources, regions]);
    if (shape === this.#shape) return false;
    const focused = this.#grid.contains(document.activeElement) ? this.#names(this.#at) : null;
    this.#shape = shape;
    this.#pointed = null;
    this.#rows = sources.map(source => buildRow(source, regions));
    const heads = regions.map(region => el('th', { scope: 'col', title: region }, el('span', {}, region)));
    this.#grid.replaceChildren(
      el('thead', {}, el('tr', {}, el('th', { className: 'corner', scope: 'col' }, el('span', { className: 'unseen' }, 'source')), ...heads)),
      el('tbody', {}, ...this.#rows.map(({ row }) => row)),
    );
    this.#grid.classList.toggle('long-names', Math.max(...regions.map(name => name.length)) > 6);
    this.#grid.style.setProperty('--rows', sources.length);
    this.#grid.style.setProperty('--columns', regions.length);
    this.#grid.style.setProperty('--name', Math.min(18, Math.max(...sources.map(name => name.length))));
    this.#refocus(focused, sources, regions);
    return true;
  }

  #refocus(names, sources, regions) {
    const row = names ? sources.indexOf(names.source) : -1;
    const column = names ? regions.indexOf(names.region) : -1;
    this.#at = { row: Math.max(0, row), column };
    this.#element(this.#at).tabIndex = 0;
    if (names) this.#element(this.#at).focus();
  }

  #cell(row, column) {
    const d = this.#data;
    const i = row * d.regions.length + column;
    return {
      source: d.sources[row], region: d.regions[column], service: d.service, state: d.state[i] ?? 'unknown', reason: d.reason?.[i],
      p50: d.p50_ms[i], p95: d.p95_ms[i], p99: d.p99_ms[i], loss: d.loss[i], samples: d.samples[i], age: d.age_s[i],
    };
  }

  #names({ row, column }) {
    return { source: this.#data?.sources[row], region: this.#data?.regions[column] };
  }

  #element({ row, column }) {
    return column < 0 ? this.#rows[row].head : this.#rows[row].cells[column].td;
  }

  /** Where an element stands: {row, column}, or null outside of the rows. */
  #place(node) {
    const cell = node.closest('tbody td, tbody th');
    return cell && { row: cell.parentNode.sectionRowIndex, column: cell.cellIndex - 1 };
  }

  #move(to) {
    const row = Math.min(this.#rows.length - 1, Math.max(0, to.row));
    const column = Math.min(this.#data.regions.length - 1, Math.max(-1, to.column));
    this.#element({ row, column }).focus();
  }

  #onKey(event) {
    const { row, column } = this.#at;
    const far = event.ctrlKey || event.metaKey;
    const moves = {
      ArrowUp: { row: row - 1, column }, ArrowDown: { row: row + 1, column },
      ArrowLeft: { row, column: column - 1 }, ArrowRight: { row, column: column + 1 },
      PageUp: { row: row - 5, column }, PageDown: { row: row + 5, column },
      Home: { row: far ? 0 : row, column: -1 }, End: { row: far ? Infinity : row, column: Infinity },
    };
    if (event.altKey) return;
    if (moves[event.key]) this.#move(moves[event.key]);
    else if (event.key === 'Enter' || event.key === ' ') this.#onChoose(this.#data.sources[row]);
    else return;
    event.preventDefault();
  }

  #onFocus(event) {
    const place = this.#place(event.target);
    if (!place) return;
    this.#element(this.#at).tabIndex = -1;
    this.#at = place;
    event.target.tabIndex = 0;
    this.#read();
  }

  #onClick(event) {
    const place = this.#place(event.target);
    if (!place) return;
    this.#element(place).focus();
    this.#onChoose(this.#data.sources[place.row]);
  }

  #point(place) {
    const heads = this.#grid.tHead?.rows[0].cells;
    if (this.#pointed) {
      setData(this.#rows[this.#pointed.row].row, 'pointed', null);
      setData(heads[this.#pointed.column + 1], 'pointed', null);
    }
    this.#pointed = place;
    if (place) {
      setData(this.#rows[place.row].row, 'pointed', '');
      setData(heads[place.column + 1], 'pointed', '');
    }
    this.#read();
  }

  /** The read-out follows the pointer, else the focus. */
  #read() {
    const focused = this.#grid.contains(document.activeElement) ? this.#at : null;
    const place = this.#pointed ?? focused;
    if (!place || !this.#data) this.#readout.idle();
    else if (place.column < 0) this.#readout.row(this.#data, place.row);
    else this.#readout.cell(this.#cell(place.row, place.column));
  }
}

function buildRow(source, regions) {
  const head = el('th', { scope: 'row', tabIndex: -1, title: source }, source);
  const cells = regions.map(region => {
    const mark = el('i', { ariaHidden: 'true' });
    const value = el('span');
    const td = el('td', { tabIndex: -1, role: 'gridcell' }, el('span', { className: 'in' }, mark, value));
    td.classList.toggle('home', source === region);
    return { td, mark, value };
  });
  return { row: el('tr', {}, head, ...cells.map(({ td }) => td)), head, cells };
}

function patchCell({ td, mark, value }, cell, fresh) {
  const before = td.dataset.state;
  setData(td, 'state', cell.state);
  setText(mark, MARKS[cell.state] ?? '?');
  setText(value, ms(cell.p50));
  setAttr(td, 'aria-label', `${cell.source} to ${cell.region}: ${STATE_WORDS[cell.state] ?? cell.state}, ${cell.p50 == null ? 'no p50' : `p50 ${ms(cell.p50)} ms`}`);
  // In twenty steps: a colour that trembles with every sample would draw the eye for nothing.
  const far = Math.round(20 * Math.min(1, (cell.p50 ?? 0) / FAR_MS)) / 20;
  if (td.style.getPropertyValue('--far') !== String(far)) td.style.setProperty('--far', far);
  if (!fresh && before !== cell.state) announce(td);
}

/** A cell that has just changed its state glows for a moment. */
function announce(td) {
  td.classList.remove('changed');
  void td.offsetWidth; // restarts the animation
  td.classList.add('changed');
  td.addEventListener('animationend', () => td.classList.remove('changed'), { once: true });
}

/** The strip above the grid: everything known about one cell, in places that do not move. */
class Readout {
  #root;
  #who;
  #state;
  #reason;
  #numbers;

  constructor(root) {
    this.#root = root;
    [this.#who, this.#state, this.#reason] = root.querySelector('.who').children;
    this.#numbers = [...root.querySelectorAll('dd')];
    this.idle();
  }

  idle() {
    this.#show(null, 'No cell chosen.', '', 'Point at one, tap one, or use the arrow keys to read it here.', []);
  }

  row({ sources, regions, state }, row) {
    const mine = state.slice(row * regions.length, (row + 1) * regions.length);
    const bad = mine.filter(name => name !== 'ok').length;
    this.#show(null, `from ${sources[row]}`, '', `${mine.length - bad} of ${mine.length} ok. Choose it to see its hints.`, []);
  }

  cell(cell) {
    const numbers = [ms(cell.p50), ms(cell.p95), ms(cell.p99), percent(cell.loss), count(cell.samples), duration(cell.age)];
    const home = cell.source === cell.region ? ' Its own region.' : '';
    const state = `${MARKS[cell.state] ?? '?'} ${STATE_WORDS[cell.state] ?? cell.state}`.trim();
    this.#show(cell.state, `${cell.source} → ${cell.region}`, state, sentence(cell.reason) + home, numbers);
  }

  #show(state, who, word, reason, numbers) {
    setData(this.#root, 'state', state);
    setText(this.#who, who);
    setText(this.#state, word);
    setText(this.#reason, reason);
    this.#numbers.forEach((node, i) => setText(node, numbers[i] ?? ''));
  }
}
