// The two small tables: how each region is judged, and how each agent is doing.

import { $, ago, bytes, clock, duration, ms, patchRows, plural, sentence, setText } from './dom.js';
import { HEALTH } from './state.js';

// An agent pushes every ten seconds; after three missed pushes it counts as silent.
const SILENT_S = 30;

export function renderRegions({ data, error }, service, now) {
  const items = (data?.items ?? []).filter(item => item.service === service);
  setText($('regions-title'), service ? `Regions, ${service}` : 'Regions');
  setText($('regions-count'), items.length ? healthCounts(items) : '');
  $('regions').hidden = !items.length;
  setText($('regions-note'), noteOf(data, error, items, 'No region is known yet.'));
  patchRows($('regions').tBodies[0], items, item => item.region, regionColumns(now), item => HEALTH[item.health]?.tone);
}

const regionColumns = now => [
  { text: item => item.region, head: true, className: 'left' },
  { text: item => `${HEALTH[item.health]?.mark ?? '?'} ${item.health}`, className: 'left health' },
  { text: item => (item.since ? `${clock(item.since, now)} · ${ago((now - Date.parse(item.since)) / 1000)}` : '–'), className: 'left' },
  { text: item => (item.vantages ? `${item.vantages.bad}/${item.vantages.eligible}` : '–') },
  { text: item => sentence(item.reason), className: 'left reason' },
];

function healthCounts(items) {
  const by = Object.groupBy(items, item => item.health);
  return Object.keys(HEALTH).filter(health => by[health]).map(health => `${by[health].length} ${health}`).join(' · ');
}

export function renderAgents({ data, error }, now) {
  const items = (data?.items ?? []).map(item => ({ ...item, silence: (now - Date.parse(item.last_seen)) / 1000 }));
  const silent = items.filter(isSilent).length;
  setText($('agents-count'), items.length ? `${plural(items.length, 'agent')}${silent ? ` · ${silent} silent` : ''}` : '');
  $('agents').hidden = !items.length;
  setText($('agents-note'), noteOf(data, error, items, 'No agent has reported yet.'));
  patchRows($('agents').tBodies[0], items, item => item.agent, AGENT_COLUMNS, item => (isSilent(item) ? 'slow' : null));
}

const isSilent = item => !(item.silence <= SILENT_S);

const AGENT_COLUMNS = [
  { text: item => item.agent, head: true, className: 'left', title: item => item.agent },
  { text: item => item.region, className: 'left', title: item => item.region },
  { text: item => item.version ?? '–', className: 'left', title: item => item.version },
  { text: item => `${isSilent(item) ? '⋯ ' : ''}${duration(item.silence)}` },
  { text: item => (item.lateness_ms?.p99 == null ? '–' : `${late(item.lateness_ms.p99)} ms`) },
  { text: item => (item.spool ? spool(item.spool) : '–') },
];

/** Lateness lives well below a millisecond, so it keeps two decimals there. */
const late = value => (value < 1 ? value.toFixed(2) : ms(value));

const spool = ({ batches, bytes: size }) => (batches ? `${batches} · ${bytes(size)}` : 'empty');

function noteOf(data, error, items, empty) {
  if (error) return `${data ? 'Not refreshed' : 'Not known'}: ${sentence(error.detail)}`;
  if (!data) return 'Loading…';
  return items.length ? '' : empty;
}
