// The page: ask the collector once a second, fold the answers into one picture, show the picture.
//
//   choice (address bar) ─▶ askAll ─▶ fold ─▶ picture ─▶ render

import { askAll } from './api.js';
import { $, el, setAttr, setData, setText } from './dom.js';
import { renderAgents, renderRegions } from './fleet.js';
import { Hints } from './hints.js';
import { Matrix } from './matrix.js';
import { say, sayLive } from './say.js';
import { HEALTH, blank, collectorNow, fold, modeOf, pickService, pickSource, readChoice, servicesOf, writeChoice } from './state.js';

const EVERY_MS = 1000;
const THEMES = [null, 'light', 'dark']; // null follows the system
const TICK_MS = matchMedia('(prefers-reduced-motion: reduce)').matches ? 1000 : 200;

let choice = readChoice();
let picture = blank();
let round = new AbortController();
let wake = () => {};

const matrix = new Matrix(source => choose({ source }));
const hints = new Hints(source => choose({ source }));

applyTheme();
$('theme').addEventListener('click', nextTheme);
document.addEventListener('visibilitychange', () => wake());
addEventListener('popstate', () => { choice = readChoice(); applyTheme(); restart(); });
setInterval(tick, TICK_MS);
keepScrollersReachable();
render();
run();

/** Rounds follow each other and never overlap; a page that nobody sees asks nothing. */
async function run() {
  for (;;) {
    while (document.hidden) await pause(EVERY_MS);
    const began = performance.now();
    round = new AbortController();
    const answers = await askAll(picture, service, source, round.signal);
    if (round.signal.aborted) continue;
    picture = fold(picture, answers, performance.now());
    keepChoice();
    render();
    await pause(Math.max(100, EVERY_MS - (performance.now() - began)));
  }
}

/** Waits, unless a choice or the page's return wakes it. */
function pause(milliseconds) {
  return new Promise(resolve => {
    wake = resolve;
    setTimeout(resolve, milliseconds);
  });
}

function restart() {
  round.abort();
  wake();
  render();
}

/** A panel that has to scroll can be scrolled from the keyboard. */
function keepScrollersReachable() {
  const observer = new ResizeObserver(entries => entries.forEach(({ target }) => {
    const scroller = target.closest('.scroll');
    setAttr(scroller, 'tabindex', scroller.scrollWidth > scroller.clientWidth ? 0 : null);
  }));
  for (const node of document.querySelectorAll('.scroll, .scroll > .list')) observer.observe(node);
}

// --- The choice ---

function service(regions = picture.regions.data) { return pickService(regions, choice.service); }
function source(data = picture.matrix.data) { return pickSource(data, choice.source); }

function choose(change) {
  choice = { ...choice, ...change };
  writeChoice(choice);
  restart();
}

/** Puts what was picked by default into the address, so that a copied link shows the same to its reader. */
function keepChoice() {
  choice = { ...choice, service: choice.service ?? service(), source: choice.source ?? source() };
  writeChoice(choice);
}

function nextTheme() {
  choice = { ...choice, theme: THEMES[(THEMES.indexOf(choice.theme) + 1) % THEMES.length] };
  writeChoice(choice);
  applyTheme();
}

function applyTheme() {
  if (!THEMES.includes(choice.theme)) choice = { ...choice, theme: null };
  setData(document.documentElement, 'theme', choice.theme);
  setText($('theme'), `theme: ${choice.theme ?? 'auto'}`);
}

// --- The show ---

/** Between rounds only the age moves; the rest is shown anew when time alone has changed the mode. */
function tick() {
  const now = performance.now();
  if (modeOf(picture, now) !== document.body.dataset.mode) render();
  else setText($('live'), sayLive(picture, now));
}

function render() {
  const now = performance.now();
  const mode = modeOf(picture, now);
  const wall = collectorNow(picture, now);
  const chosen = { service: service(), source: source() };
  const shown = picture.matrix.data?.service === chosen.service ? picture.matrix.data : null;

  setData(document.body, 'mode', mode);
  setText($('live'), sayLive(picture, now));
  renderSay(say(picture, now));
  renderServices(chosen.service);
  setText($('matrix-title'), chosen.service ? `${chosen.service}, p50 in ms, last 30 s` : 'Matrix');
  setText($('matrix-note'), matrixNote(mode, shown, chosen.service));
  matrix.render(shown, chosen.source);
  hints.render(picture.hints, { ...chosen, wished: choice.source, loading: mode === 'loading', sources: picture.matrix.data?.sources ?? [], now: wall });
  renderRegions(picture.regions, chosen.service, wall);
  renderAgents(picture.agents, wall);
}

function renderSay({ tone, strong, rest, more }) {
  const [head, tail] = $('say').children;
  setData($('say').parentNode, 'tone', tone);
  setText(head, strong);
  setText(tail, rest);
  setText($('say-more'), more);
  const title = `${strong.replace(/[.:…]$/, '')} · Isochrone`;
  if (document.title !== title) document.title = title;
}

function matrixNote(mode, shown, name) {
  if (shown?.sources.length) return '';
  if (picture.matrix.error) return `Not known: ${picture.matrix.error.detail}.`;
  if (mode === 'empty' && picture.agents.data?.items?.length) return 'No window has arrived yet.';
  if (mode === 'empty') return 'No source has measured anything yet. Start an agent: isochrone-agent run --config FILE';
  return mode === 'loading' || name ? 'Loading…' : 'Nothing has been received yet.';
}

/** A button for each service, with the number of its regions that are not healthy. */
function renderServices(chosen) {
  const nav = $('services');
  const items = picture.regions.data?.items ?? [];
  const names = servicesOf(picture.regions.data);
  if (nav.dataset.names !== names.join(' ')) {
    nav.dataset.names = names.join(' ');
    nav.replaceChildren(...names.map(name => el('button', { type: 'button', onclick: () => choose({ service: name }) }, el('span', {}, name), el('i'))));
  }
  names.forEach((name, i) => {
    const sick = items.filter(item => item.service === name && item.health !== 'healthy');
    const worst = ['down', 'degraded', 'unknown'].find(health => sick.some(item => item.health === health));
    setAttr(nav.children[i], 'aria-pressed', name === chosen);
    setAttr(nav.children[i], 'aria-label', sick.length ? `${name}, ${sick.length} not healthy, worst: ${worst}` : name);
    setData(nav.children[i], 'tone', HEALTH[worst]?.tone);
    setText(nav.children[i].lastChild, sick.length ? ` ${HEALTH[worst].mark} ${sick.length}` : '');
  });
}
