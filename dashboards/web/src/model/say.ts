// The words at the top of the page: what an operator should know first. Pure: what is known and a moment in, words out.

import { isBad, layersOf, readReason, suspects, worst } from './blame';
import { pictureAge, sampleAge, wall, type Known, type Mode } from './mode';
import { cellsOf, tableOf, type MeasuredCell, type Picture, type Table } from './picture';
import type { CellState, Health, Region } from './wire';
import { clock, duration, listing, plural, sentence } from './write';

export type Tone = 'ok' | 'slow' | 'lossy' | 'down' | 'quiet';

export interface Saying {
  tone: Tone;
  /** The news itself. */
  strong: string;
  rest: string;
  more: string;
}

const TONES: Record<CellState, Tone> = { ok: 'ok', slow: 'slow', lossy: 'lossy', down: 'down', unknown: 'quiet', stale: 'quiet' };

/** `service` is the one that is shown; regions speak for all of them. */
export function say(known: Known, mode: Mode, service: string | null, agents: number, now: number): Saying {
  const { line, picture } = known;
  const here = wall(known, now);
  switch (mode) {
    case 'loading':
      return { tone: 'quiet', strong: 'Asking the collector…', rest: '', more: '' };
    case 'empty':
      return {
        tone: 'quiet',
        strong: 'Waiting for the first measurements.',
        rest: '',
        more: agents
          ? `${plural(agents, 'agent')} known. The first window closes about ten seconds after an agent starts.`
          : 'No agent has reported yet. The page fills by itself when one does.',
      };
    case 'disconnected':
      return { tone: 'down', strong: 'The collector does not answer.', rest: '', more: lastPicture(known, service, here) };
    case 'refused': {
      const why = line.is === 'refused' ? `${line.status}: ${sentence(line.detail)} ` : '';
      return { tone: 'slow', strong: 'The collector answers with an error.', rest: '', more: `${why}${lastPicture(known, service, here)}` };
    }
    case 'stale': {
      const since = here - 1000 * Math.max(sampleAge(known, now) ?? 0, pictureAge(known, now) ?? 0);
      return {
        tone: 'slow',
        strong: `No fresh measurements since ${clock(since, here)}.`,
        rest: '',
        more: 'Do not trust this picture: it is what was known then. Look at the agents: do they run, and do they reach this collector?',
      };
    }
    case 'live':
      return sayWorld(picture, tableOf(picture, service), here);
  }
}

function lastPicture({ line, picture, heard, clock: kept }: Known, service: string | null, here: number): string {
  const table = tableOf(picture, service);
  if (!table || heard == null) return line.is === 'refused' ? 'Nothing has been received yet.' : 'Nothing has been received yet. Is it running, and is this its address?';
  const { strong, rest } = sayWorld(picture, table, here);
  return `Below is the last picture, from ${clock((kept?.offset ?? 0) + heard, here)}: ${strong}${rest}`;
}

/** The state of the world, worst first: regions down, regions degraded, a source's own fault, single pairs, all well. */
function sayWorld(picture: Picture, table: Table | null, here: number): Saying {
  const regions = [...picture.regions.values()];
  const more = table ? pairsLine(table) : '';
  const of = (health: Health) => regions.filter(region => region.health === health);
  for (const health of ['down', 'degraded'] as const) {
    const items = of(health);
    if (items.length) return sayRegions(picture, items, health, of, more, here);
  }

  const lone = table ? suspects(table) : [];
  if (table && lone.length) {
    const [first] = lone;
    const names = listing(lone.map(({ source }) => source));
    const cells = cellsOf(table).filter(cell => cell.source === first?.source && isBad(cell));
    const what = worst(cells.map(cell => cell.state)) ?? 'lossy';
    return {
      tone: TONES[what],
      strong: lone.length === 1 ? `${names} sees ${first?.bad} of ${first?.of} ${table.service} regions ${what}` : `${names} see nearly every ${table.service} region bad`,
      rest: `; nobody else does. Look at ${lone.length === 1 ? 'its' : 'their'} own uplink.`,
      more,
    };
  }

  const unknown = of('unknown');
  const others = unknown.length ? `${nameRegions(unknown)} ${verb(unknown)} unknown.` : 'No region is in trouble.';
  const bad = table ? cellsOf(table).filter(isBad) : [];
  const silent = table ? cellsOf(table).filter(cell => cell.state === 'stale') : [];
  const cells = bad.length ? bad : silent;
  if (table && cells.length) {
    const states = new Set(cells.map(cell => cell.state));
    const [only] = states;
    const what = states.size === 1 ? only : 'not well';
    const n = cells.length;
    return {
      tone: TONES[worst(states) ?? 'unknown'],
      strong: `${n} of ${cellsOf(table).length} ${table.service} pairs ${n === 1 ? 'is' : 'are'} ${what}`,
      rest: `${where(cells)}. ${others}`,
      more: n === 1 ? `${told(cells[0]?.reason ?? '')} ${more}` : more,
    };
  }

  if (unknown.length) {
    return { tone: 'quiet', strong: `${nameRegions(unknown)} ${verb(unknown)} unknown.`, rest: ' Nothing is known to be wrong.', more };
  }
  const services = new Set(regions.map(region => region.service));
  const all = services.size > 1 ? `every region of ${listing([...services].sort(), 4)} is healthy.` : `${plural(regions.length, `${table?.service ?? ''} region`)} healthy from ${plural(table?.sources.length ?? 0, 'source')}.`;
  return { tone: 'ok', strong: 'All is well:', rest: ` ${all}`, more };
}

function sayRegions(picture: Picture, items: Region[], health: 'down' | 'degraded', of: (health: Health) => Region[], more: string, here: number): Saying {
  const first = items.reduce((a, b) => (Date.parse(a.since) <= Date.parse(b.since) ? a : b));
  const since = `${items.length > 1 && !oneRegion(items) ? ', the first' : ''} since ${clock(Date.parse(first.since), here)}.`;
  const rest = (['degraded', 'unknown'] as const).filter(other => other !== health && of(other).length);
  const others = rest.map(other => `${nameRegions(of(other))} ${verb(of(other))} ${other}`);
  const table = items.length === 1 ? tableOf(picture, first.service) : null;
  const layers = table && layersOf(table, first.region);
  const whole = items.length > 1 && oneRegion(items) && items.length === [...picture.regions.values()].filter(({ region }) => region === first.region).length;
  const detail = whole ? `Every service: ${listing(items.map(({ service }) => service), 4)}. ${sentence(first.reason)}` : items.length === 1 ? sentence(first.reason) : `${listing(items.map(item => `${item.region} ${item.service}`), 8)}.`;
  return {
    tone: health === 'down' ? 'down' : 'slow',
    strong: `${whole ? first.region : nameRegions(items)} ${verb(items)} ${health}`,
    rest: `${since} ${others.length ? `${listing(others)}.` : 'Every other region is healthy.'}`,
    more: [detail, layers && `Layers: ${layers}.`, more].filter(Boolean).join(' '),
  };
}

function told(reason: string): string {
  const { seen, layers } = readReason(reason);
  return layers ? `${sentence(seen)} Layers: ${sentence(layers)}` : sentence(seen);
}

const oneRegion = (items: Region[]) => items.every(item => item.region === items[0]?.region);
const verb = (items: Region[]) => (items.length > 1 && !oneRegion(items) ? 'are' : 'is');

function nameRegions(items: Region[]): string {
  if (oneRegion(items)) return `${items[0]?.region} ${listing(items.map(item => item.service))}`;
  const services = new Set(items.map(item => item.service));
  const [only] = services;
  if (items.length > 3) return `${items.length} ${services.size === 1 ? only : 'service'} regions`;
  if (services.size === 1) return `${listing(items.map(item => item.region))} ${only}`;
  return listing(items.map(item => `${item.region} ${item.service}`));
}

/** Says so when all of the cells stand in one row or one column: that is where to look. */
function where(cells: MeasuredCell[]): string {
  const sources = new Set(cells.map(cell => cell.source));
  const regions = new Set(cells.map(cell => cell.region));
  const [source] = sources;
  const [region] = regions;
  if (cells.length === 1) return `: ${source} → ${region}`;
  if (sources.size === 1) return `, all from ${source}`;
  if (regions.size === 1) return `, all to ${region}`;
  return '';
}

const IN_ORDER: CellState[] = ['ok', 'slow', 'lossy', 'down', 'unknown', 'stale'];

function pairsLine(table: Table): string {
  const cells = cellsOf(table);
  const counts = IN_ORDER.map(state => [state, cells.filter(cell => cell.state === state).length] as const).filter(([, n]) => n);
  if (counts.length === 1 && counts[0]?.[0] === 'ok') return `All ${plural(cells.length, `${table.service} pair`)} ok.`;
  return `${plural(cells.length, `${table.service} pair`)}: ${counts.map(([state, n]) => `${n} ${state}`).join(' · ')}.`;
}

/** The line in the corner. */
export function sayLive(known: Known, mode: Mode, now: number): string {
  const { line, heard } = known;
  const again = line.is === 'lost' || line.is === 'refused' ? `again in ${Math.max(0, Math.ceil((line.again - now) / 1000))} s` : 'trying again';
  const seen = heard == null ? '' : `last heard ${duration((now - heard) / 1000)} ago, `;
  switch (mode) {
    case 'loading':
      return 'connecting';
    case 'disconnected':
      return `disconnected · ${seen}${again}`;
    case 'refused':
      return `error ${line.is === 'refused' ? line.status : ''} · ${seen}${again}`;
    case 'stale':
      return `stale · newest data ${duration(Math.max(sampleAge(known, now) ?? 0, pictureAge(known, now) ?? 0))} old`;
    case 'empty':
      return 'live · no data yet';
    case 'live':
      return `live · ${duration(pictureAge(known, now))} ago`;
  }
}
