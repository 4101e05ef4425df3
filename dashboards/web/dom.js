// Small helpers: elements that are patched in place, and the one way in which numbers and times are written.
// Patching never replaces a node that is still needed, so focus, selection and scroll survive a refresh.

export const $ = id => document.getElementById(id);

export function el(tag, props = {}, ...children) {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Sets a data attribute; null or undefined removes it. */
export function setData(node, name, value) {
  if (value == null) delete node.dataset[name];
  else if (node.dataset[name] !== String(value)) node.dataset[name] = value;
}

export function setAttr(node, name, value) {
  if (value == null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/**
 * Makes the rows of `tbody` those of `items`, by key. A column is
 * {text(item), head?, className?, title?(item), tone?(item), bar?(item) 0–1}.
 */
export function patchRows(tbody, items, keyOf, columns, toneOf = () => null) {
  const old = new Map([...tbody.rows].map(row => [row.dataset.key, row]));
  items.forEach((item, index) => {
    const key = keyOf(item);
    const row = old.get(key) ?? newRow(key, columns);
    old.delete(key);
    if (tbody.rows[index] !== row) tbody.insertBefore(row, tbody.rows[index] ?? null);
    setData(row, 'tone', toneOf(item));
    columns.forEach((column, i) => patchCell(row.cells[i], column, item));
  });
  old.forEach(row => row.remove());
}

function newRow(key, columns) {
  const row = el('tr');
  row.dataset.key = key;
  for (const column of columns) {
    const cell = el(column.head ? 'th' : 'td', { className: column.className ?? '' });
    if (column.head) cell.scope = 'row';
    if (column.bar) cell.append(el('span', { className: 'bar' }));
    cell.append(el('span'));
    row.append(cell);
  }
  return row;
}

function patchCell(cell, column, item) {
  setText(cell.lastChild, column.text(item));
  if (column.title) setAttr(cell, 'title', column.title(item));
  if (column.tone) setData(cell, 'tone', column.tone(item));
  if (column.bar) cell.firstChild.style.setProperty('--share', column.bar(item).toFixed(3));
}

const NOTHING = '–';

/** Milliseconds: a decimal below ten, whole above; never more digits than the eye can use. */
export function ms(value) {
  if (value == null) return NOTHING;
  return value < 9.95 ? value.toFixed(1) : value.toFixed(0);
}

/** Milliseconds where neighbours are compared: a decimal below a hundred. */
export function finerMs(value) {
  if (value == null) return NOTHING;
  return value < 99.95 ? value.toFixed(1) : value.toFixed(0);
}

/** A ratio as a percentage. A loss that is not zero never reads as zero. */
export function percent(ratio) {
  if (ratio == null) return NOTHING;
  const value = ratio * 100;
  if (value === 0) return '0 %';
  if (value < 0.1) return '<0.1 %';
  return `${value < 9.95 ? value.toFixed(1) : value.toFixed(0)} %`;
}

export function count(value) {
  if (value == null) return NOTHING;
  return value < 10_000 ? String(value) : `${Math.floor(value / 1000)}k`;
}

export function bytes(value) {
  if (value == null) return NOTHING;
  if (value < 1000) return `${value} B`;
  return value < 1e6 ? `${(value / 1e3).toFixed(0)} kB` : `${(value / 1e6).toFixed(1)} MB`;
}

/** How long: the two largest units. */
export function duration(seconds) {
  if (seconds == null || Number.isNaN(seconds)) return NOTHING;
  if (seconds < 9.95) return `${Math.max(0, seconds).toFixed(1)} s`;
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

/** How long ago, roughly: the largest unit. */
export function ago(seconds) {
  if (Number.isNaN(seconds)) return NOTHING;
  const s = Math.max(0, seconds);
  const [size, unit] = [[86_400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']].find(([size]) => s >= size) ?? [1, 's'];
  return `${Math.floor(s / size)} ${unit}`;
}

/** A moment in UTC: the time of today, or the day and the time. `now` is the collector's clock in epoch ms. */
export function clock(when, now) {
  const date = new Date(when);
  if (Number.isNaN(date.getTime())) return NOTHING;
  const iso = date.toISOString();
  const today = new Date(now).toISOString().slice(0, 10);
  return iso.startsWith(today) ? iso.slice(11, 19) : `${Number(iso.slice(8, 10))} ${MONTHS[date.getUTCMonth()]} ${iso.slice(11, 16)}`;
}
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** A reason as the collector gives it (a phrase or a code), as a sentence. */
export function sentence(reason) {
  if (!reason) return '';
  let text = (/^[a-z0-9]+(_[a-z0-9]+)+$/.test(reason) ? reason.replaceAll('_', ' ') : reason).trim();
  text = text.replace(/(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?Z/g, '$1 $2');
  return text + (/[.!?]$/.test(text) ? '' : '.');
}

/** "a", "a and b", "a, b and c", "a, b and 4 more". */
export function listing(names, most = 3) {
  if (names.length > most) return `${names.slice(0, most - 1).join(', ')} and ${names.length - most + 1} more`;
  return names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}

export const plural = (n, word) => `${n} ${word}${n === 1 ? '' : 's'}`;
