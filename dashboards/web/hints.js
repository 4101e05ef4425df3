// The hints of one source: in which order a router should use the regions, and why.

import { $, clock, count, duration, el, finerMs, patchRows, percent, sentence, setData, setText } from './dom.js';

// What the basis and the mode mean for who reads this at night; nothing is said where all is as usual.
const BASES = {
  last_known_good: 'Measurements are missing, so the last good list stands.',
  prior: 'Too few samples: this order is by distance, not measured.',
  fail_open: 'Too much looks bad at once: the list stays open, so that nobody is left without a region.',
  pinned: 'Pinned by an operator; measurement does not move it.',
  frozen: 'Frozen by an operator; measurement does not move it.',
};
const MODES = { shadow: 'shadow, shown here, not served to routers.' };
// A challenger takes the first place after winning this many closed windows.
const WINS_NEEDED = 3;

const COLUMNS = [
  { text: hint => String(hint.rank) },
  { text: hint => hint.region, head: true, className: 'left', title: hint => [hint.region, ...(hint.addresses ?? [])].join('\n') },
  { text: hint => String(hint.weight), className: 'weight', bar: hint => hint.share },
  { text: hint => finerMs(hint.cost_ms) },
  { text: hint => (hint.cost_ci_ms ? `${finerMs(hint.cost_ci_ms[0])}–${finerMs(hint.cost_ci_ms[1])}` : '–'), className: 'range' },
  { text: hint => finerMs(hint.p50_ms) },
  { text: hint => finerMs(hint.p95_ms) },
  { text: hint => percent(hint.loss), tone: hint => (hint.loss >= 0.01 ? 'lossy' : null) },
  { text: hint => count(hint.samples), tone: hint => (hint.samples ? null : 'unknown') },
];

export class Hints {
  #select = $('source');

  constructor(onChoose) {
    this.#select.addEventListener('change', () => onChoose(this.#select.value));
  }

  /** Shows the answer for `source` and `service`; an answer for another pair is not shown under this one's name. */
  render({ data, error }, { source, service, wished, loading, sources, now }) {
    const hints = data?.source === source && data?.service === service ? data : null;
    this.#renderSources(sources, source);
    setText($('hints-title'), source ? `Hint: ${source} → ${service}` : 'Hints');
    setText($('hints-version'), hints ? `v ${hints.version} · ${hints.mode}` : '');
    setText($('hints-basis'), hints ? hints.basis.replaceAll('_', ' ') : '');
    setData($('hints-basis'), 'tone', !hints || hints.basis === 'measured' ? null : 'slow');
    $('hints').hidden = !hints;
    if (hints) this.#renderRanks(hints);
    setText($('hints-note'), noteOf({ hints, error, source, service, wished, loading }));
    renderWhy($('hints-why'), hints ? reasonsOf(hints, now) : []);
  }

  #renderSources(sources, source) {
    const names = sources.join(' ');
    if (this.#select.dataset.names !== names) {
      this.#select.replaceChildren(...sources.map(name => el('option', { value: name }, name)));
      this.#select.dataset.names = names;
    }
    $('choose').hidden = !sources.length;
    if (source && this.#select.value !== source) this.#select.value = source;
  }

  #renderRanks({ ranked }) {
    const total = ranked.reduce((sum, hint) => sum + hint.weight, 0) || 1;
    const rows = ranked.map(hint => ({ ...hint, share: hint.weight / total }));
    patchRows($('hints').tBodies[0], rows, hint => hint.region, COLUMNS, hint => (hint.rank === 1 ? 'top' : hint.weight ? null : 'quiet'));
  }
}

function noteOf({ hints, error, source, service, wished, loading }) {
  const elsewhere = wished && source && wished !== source ? `${wished} is not among the sources; this is ${source}. ` : '';
  if (loading) return 'Loading…';
  if (!source) return 'Hints appear with the first source.';
  if (error && !hints) return `${elsewhere}No hint for ${source} → ${service}: ${sentence(error.detail)}`;
  if (error) return `${elsewhere}Not refreshed: ${sentence(error.detail)}`;
  return hints ? elsewhere : `${elsewhere}Asking for the hint of ${source}…`;
}

/** Paragraphs of [tone, bold, text]. */
function reasonsOf(hints, now) {
  const first = hints.ranked[0];
  const lines = [];
  if (Date.parse(hints.stale_after) < now) lines.push(['slow', 'Stale:', `since ${clock(hints.stale_after, now)}; valid until ${clock(hints.valid_until, now)}.`]);
  if (BASES[hints.basis]) lines.push(['slow', 'Basis:', BASES[hints.basis]]);
  if (MODES[hints.mode]) lines.push([null, 'Mode:', MODES[hints.mode]]);
  if (first) lines.push([null, `Why ${first.region}:`, sentence(first.reason)]);
  if (hints.stability) lines.push([null, 'Stability:', stabilityOf(hints.stability, now)]);
  const out = (hints.excluded ?? []).map(({ region, reason }) => `${region}: ${sentence(reason)}`);
  if (out.length) lines.push([null, 'Out:', out.join(' ')]);
  return lines;
}

function stabilityOf({ incumbent, since, challenger, margin_ms, wins }, now) {
  if (!incumbent) return 'Nobody is first yet.';
  const stood = since ? `${incumbent} is first since ${clock(since, now)} (${duration((now - Date.parse(since)) / 1000)}).` : `${incumbent} is first.`;
  if (!challenger) return `${stood} Nobody challenges it.`;
  const cheaper = margin_ms == null ? '' : `is ${finerMs(margin_ms)} ms cheaper and `;
  return `${stood} ${challenger} ${cheaper}has won ${wins ?? 0} of the ${WINS_NEEDED} windows it needs.`;
}

function renderWhy(root, lines) {
  while (root.children.length > lines.length) root.lastChild.remove();
  while (root.children.length < lines.length) root.append(el('p', {}, el('b'), el('span')));
  lines.forEach(([tone, bold, text], i) => {
    const [head, body] = root.children[i].children;
    setData(root.children[i], 'tone', tone);
    setText(head, bold);
    setText(body, ` ${text}`);
  });
}
