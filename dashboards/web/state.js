// What the page knows and what it concludes from it. Pure, apart from the choice, which lives in the address bar.
// `now` is always the browser's monotonic clock in ms; the collector's wall clock is derived from its own answers, so
// a wrong clock in the browser changes nothing.

export const MARKS = { ok: '', slow: '▴', lossy: '◌', down: '✕', unknown: '?', stale: '⋯' };
export const HEALTH = {
  healthy: { mark: '·', tone: null },
  degraded: { mark: '▴', tone: 'slow' },
  down: { mark: '✕', tone: 'down' },
  unknown: { mark: '?', tone: 'unknown' },
};

const STALE_S = 30;
// One lost request is a blip; only after this long without an answer does the page say so.
const GRACE_MS = 3000;

// --- The choice ---

export function readChoice() {
  const query = new URLSearchParams(location.search);
  return { service: query.get('service'), source: query.get('source'), theme: query.get('theme') };
}

export function writeChoice(choice) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(choice)) value ? query.set(name, value) : query.delete(name);
  const text = query.toString();
  if (text !== location.search.slice(1)) history.replaceState(null, '', text ? `?${text}` : location.pathname);
}

export const servicesOf = regions => [...new Set((regions?.items ?? []).map(item => item.service))];

/** The wished one if there is such; voice before others, since a caller feels it first. */
export function pickService(regions, wished) {
  const services = servicesOf(regions);
  return [wished, 'voice', services[0]].find(name => services.includes(name)) ?? null;
}

export function pickSource(matrix, wished) {
  const sources = matrix?.sources ?? [];
  return sources.includes(wished) ? wished : (sources[0] ?? null);
}

// --- The picture: the last good answer of each kind, and whether the last question failed ---

export const blank = () => ({
  regions: unasked(), agents: unasked(), matrix: unasked(), hints: unasked(),
  reachedAt: null, // when the collector last answered with data
  failure: null, // why the last round has no picture, or null
  clock: null, // {asOf, lag, seenAt}: the collector's time, and when it was read
});
const unasked = () => ({ data: null, error: null });

export function fold(last, answers, now) {
  const next = { ...last };
  for (const [name, answer] of Object.entries(answers)) {
    if (answer?.ok) next[name] = { data: answer.data, error: null };
    else if (answer) next[name] = { data: last[name].data, error: answer };
    else next[name] = unasked();
  }
  next.failure = [answers.regions, answers.matrix].find(answer => answer && !answer.ok) ?? null;
  if (!next.failure) next.reachedAt = now;
  next.clock = readClock(last.clock, answers.matrix?.ok ? answers.matrix : answers.regions, now);
  return next;
}

/** An answer whose as_of stands still grows old; the Date header tells how old it was when it came first. */
function readClock(last, answer, now) {
  const asOf = Date.parse(answer?.data?.as_of);
  if (Number.isNaN(asOf) || asOf === last?.asOf) return last;
  return { asOf, lag: Math.max(0, (answer.date || asOf) - asOf), seenAt: now };
}

/** How old the picture is, in seconds. */
export const pictureAge = ({ clock }, now) => (clock ? (clock.lag + now - clock.seenAt) / 1000 : null);

/** The collector's wall clock, in epoch ms. */
export const collectorNow = ({ clock }, now) => (clock ? clock.asOf + clock.lag + now - clock.seenAt : Date.now());

/** loading · empty · live · stale · disconnected (no answer) · refused (an answer, but an error) */
export function modeOf(picture, now) {
  const { reachedAt, failure } = picture;
  if (failure && (reachedAt === null || now - reachedAt > GRACE_MS)) {
    return failure.kind === 'refused' ? 'refused' : 'disconnected';
  }
  if (reachedAt === null) return 'loading';
  // Agents may be known before the first window has arrived: every cell is then unknown and has no age.
  if (!picture.matrix.data?.age_s.some(age => age != null)) return 'empty';
  return newestAge(picture, now) > STALE_S ? 'stale' : 'live';
}

/** The age of the newest thing measured: of the picture itself, or of its freshest cell when all of them are old. */
export function newestAge(picture, now) {
  const { state, age_s } = picture.matrix.data;
  const ages = age_s.filter(age => age != null);
  const known = state.filter(name => name !== 'unknown');
  const age = pictureAge(picture, now) ?? 0;
  const freshest = ages.length ? Math.min(...ages) : 0;
  if (freshest > STALE_S || (known.length && known.every(name => name === 'stale'))) return Math.max(age + freshest, STALE_S + 1);
  return age;
}
