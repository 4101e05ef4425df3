// The words at the top of the page: what an operator should know first. Pure: a picture and a moment in, words out.

import { clock, duration, listing, plural, sentence } from './dom.js';
import { MARKS, collectorNow, modeOf, newestAge, pictureAge } from './state.js';

/** The sentence: {tone, strong, rest, more}. */
export function say(picture, now) {
  const mode = modeOf(picture, now);
  const time = when => clock(when, collectorNow(picture, now));
  switch (mode) {
    case 'loading': return { tone: 'quiet', strong: 'Asking the collector…', rest: '', more: '' };
    case 'empty': return sayEmpty(picture);
    case 'disconnected': return { tone: 'down', strong: 'The collector does not answer.', rest: '', more: lastPicture(picture, time) };
    case 'refused': {
      const { status, detail } = picture.failure;
      return { tone: 'slow', strong: 'The collector answers with an error.', rest: '', more: `${status}: ${sentence(detail)} ${lastPicture(picture, time)}` };
    }
    case 'stale': {
      const since = time(collectorNow(picture, now) - newestAge(picture, now) * 1000);
      return { tone: 'slow', strong: `No fresh measurements since ${since}.`, rest: '', more: `Do not trust this picture; it is what was known then. ${plural(picture.agents.data?.items?.length ?? 0, 'agent')} known: see when each was last seen.` };
    }
    default: return sayWorld(picture.regions.data, picture.matrix.data, time);
  }
}

function sayEmpty({ agents }) {
  const n = agents.data?.items?.length ?? 0;
  const more = n ? `${plural(n, 'agent')} known. The first window closes about ten seconds after an agent starts.` : 'No agent has reported yet. This page fills by itself when one does.';
  return { tone: 'quiet', strong: 'Waiting for the first measurements.', rest: '', more };
}

function lastPicture(picture, time) {
  if (picture.reachedAt === null || !picture.matrix.data?.sources?.length) return 'Nothing has been received yet.';
  const { strong, rest } = sayWorld(picture.regions.data, picture.matrix.data, time);
  return `Below is the last picture, from ${time(collectorNow(picture, picture.reachedAt))}: ${strong}${rest}`;
}

/**
 * The state of the world, worst first: regions down, regions degraded, single pairs bad, stale, unknown, all well.
 * Region health speaks for every service; pairs are those of the chosen one. Incidents will replace this.
 */
function sayWorld(regions, matrix, time) {
  const by = Object.groupBy(regions.items, item => item.health);
  const pairs = Object.groupBy(matrix.state.map((state, index) => ({ state, index })), cell => cell.state);
  const more = pairsLine(matrix, pairs);

  for (const health of ['down', 'degraded']) {
    const items = by[health];
    if (!items) continue;
    const first = items.reduce((a, b) => (Date.parse(a.since) <= Date.parse(b.since) ? a : b));
    const since = `${items.length > 1 ? ', the first' : ''} since ${time(first.since)}.`;
    return {
      tone: health === 'down' ? 'down' : 'slow',
      strong: `${nameRegions(items)} ${items.length > 1 && !oneRegion(items) ? 'are' : 'is'} ${health}`,
      rest: `${since} ${others(by, health)}`,
      more: `${items.length === 1 ? sentence(items[0].reason) : `${listing(items.map(item => `${item.region} ${item.service}`), 8)}.`} ${more}`.trim(),
    };
  }

  if (pairs.unknown?.length === matrix.state.length) {
    return { tone: 'unknown', strong: 'Waiting for enough measurements.', rest: ` ${plural(matrix.sources.length, 'source')} known, nothing can be said yet.`, more };
  }
  const bad = ['down', 'lossy', 'slow'].filter(state => pairs[state]);
  const kinds = bad.length ? bad : ['stale', 'unknown'].filter(state => pairs[state]);
  if (kinds.length) {
    const cells = kinds.flatMap(state => pairs[state]);
    const n = cells.length;
    const what = kinds.length === 1 ? kinds[0] : bad.length ? 'not well' : 'without fresh data';
    return {
      tone: kinds[0],
      strong: `${n} of ${matrix.state.length} source–region pairs ${n === 1 ? 'is' : 'are'} ${what}`,
      rest: `${where(cells, matrix)}. ${by.unknown ? others(by) : `All ${matrix.service} regions are healthy.`}`,
      more,
    };
  }

  if (by.unknown) {
    return { tone: 'unknown', strong: `${nameRegions(by.unknown)} ${by.unknown.length > 1 ? 'are' : 'is'} unknown.`, rest: ' Nothing is known to be wrong.', more };
  }
  const mine = regions.items.filter(item => item.service === matrix.service).length;
  const rest = regions.items.length > mine ? ` Every region of the other services is healthy too.` : '';
  return { tone: 'ok', strong: 'All is well:', rest: ` ${plural(mine, `${matrix.service} region`)} healthy from ${plural(matrix.sources.length, 'source')}.`, more: more + rest };
}

const oneRegion = items => items.every(item => item.region === items[0].region);

function nameRegions(items) {
  if (oneRegion(items)) return `${items[0].region} ${listing(items.map(item => item.service))}`;
  const services = new Set(items.map(item => item.service));
  if (items.length > 3) return `${items.length} ${services.size === 1 ? items[0].service : 'service'} regions`;
  if (services.size === 1) return `${listing(items.map(item => item.region))} ${items[0].service}`;
  return listing(items.map(item => `${item.region} ${item.service}`));
}

function others(by, except) {
  const rest = ['degraded', 'unknown'].filter(health => health !== except && by[health]);
  const named = health => `${nameRegions(by[health])} ${by[health].length > 1 && !oneRegion(by[health]) ? 'are' : 'is'} ${health}`;
  return rest.length ? `${listing(rest.map(named))}.` : 'Every other region is healthy.';
}

/** Says so when all of the cells stand in one row or one column: that is where to look. */
function where(cells, { sources, regions }) {
  const width = regions.length;
  const rows = new Set(cells.map(cell => Math.floor(cell.index / width)));
  const columns = new Set(cells.map(cell => cell.index % width));
  if (cells.length === 1) return `: ${sources[[...rows][0]]} → ${regions[[...columns][0]]}`;
  if (rows.size === 1) return `, all from ${sources[[...rows][0]]}`;
  if (columns.size === 1) return `, all to ${regions[[...columns][0]]}`;
  return '';
}

function pairsLine({ service, state }, pairs) {
  if (pairs.ok?.length === state.length) return `All ${plural(state.length, `${service} pair`)} ok.`;
  const parts = Object.keys(MARKS).filter(name => pairs[name]).map(name => `${pairs[name].length} ${name}`);
  return `${plural(state.length, `${service} pair`)}: ${parts.join(' · ')}.`;
}

/** The line in the corner. */
export function sayLive(picture, now) {
  const lastSeen = picture.reachedAt === null ? '' : `last seen ${clock(collectorNow(picture, picture.reachedAt), collectorNow(picture, now))}, `;
  switch (modeOf(picture, now)) {
    case 'loading': return 'connecting';
    case 'disconnected': return `disconnected · ${lastSeen}trying again`;
    case 'refused': return `error ${picture.failure.status} · ${lastSeen}trying again`;
    case 'stale': return `stale · newest data ${duration(newestAge(picture, now))} old`;
    case 'empty': return `live · no data yet`;
    default: return `live · ${duration(pictureAge(picture, now))} ago`;
  }
}
